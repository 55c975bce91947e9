"""Benchmarks: one question per module, timed by `harness`, kept as JSON, drawn up by `report`.

    python -m benchmarks all                      # or step compile batch loop ways wall memory
                                                  # tiles beyond peers time_to_loss engine
    python -m benchmarks all --quick              # minutes on two cores: does it work?
    python -m benchmarks report --plots FOLDER    # tables, and figures by matplotlib (extra `bench`)

The table of a GPU, on a machine that has one, with jax's CUDA wheels and torch's:

    python -m benchmarks all && python -m benchmarks report --plots benchmarks/results/plots

Each case has a plan for processors (`FULL`) and, where that would be too short to time elsewhere, one
for accelerators (`GPU`); what is not installed is noted in the record. pastiche, the peer of `wall`,
is found as a command of that name or by the variable PASTICHE; see `pastiche.py`. The peers of `peers`
are torch (extra `parity`) and, where it is installed beside the package, TensorFlow; see
`tensorflow_tutorial.py`.

They use the public names of `nst_jax` only. Nothing here is run by the test suite for its time.
"""
