"""Benchmarks: one question per module, timed by `harness`, kept as JSON, drawn up by `report`.

    python -m benchmarks step compile batch loop memory
    python -m benchmarks report

They use the public names of `nst_jax` only. Nothing here is run by the test suite for its time.
"""
