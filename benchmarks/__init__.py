"""Benchmarks: one question per module, timed by `harness`, saved as JSON, printed by `report`.

    python -m benchmarks all                      # or step compile batch loop ways wall memory
                                                  # tiles beyond peers time_to_loss engine
    python -m benchmarks all --quick              # minutes on two cores: only shows that it works
    python -m benchmarks report --plots FOLDER    # tables, and figures by matplotlib (extra `bench`)

On a machine with a GPU, with the CUDA wheels of jax and torch:

    python -m benchmarks all && python -m benchmarks report --plots benchmarks/results/plots

Each case has a plan for CPUs (`FULL`) and, if that is too short to time on accelerators, another one
for these (`GPU`). A peer is another implementation that is compared with ours; a record notes the peers
that were not installed. The peer of `wall` is pastiche: the command of that name, or the one that the
variable PASTICHE names; see `pastiche.py`. Those of `peers` are torch (extra `parity`) and TensorFlow;
see `tensorflow_tutorial.py`.

The cases use public names of `nst_jax` only. The test suite runs them, but asserts no times.
"""
