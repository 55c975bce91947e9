"""Benchmarks: one question per module (a case), timed by `harness`, saved as JSON, shown by `report`.

    python -m benchmarks all                      # or some of: start step compile batch loop ways wall
                                                  # memory tiles beyond peers time_to_loss engine
                                                  # overlap
    python -m benchmarks all --quick              # takes minutes; only shows that all cases work
    python -m benchmarks report --plots FOLDER    # tables, and figures by matplotlib (extra `bench`)

On a machine with a GPU, with the CUDA wheels of jax and torch:

    python -m benchmarks gpu                      # ends within eight minutes, prints its table last
    python -m benchmarks all && python -m benchmarks report --plots benchmarks/results/plots

Each case has a plan (sizes, steps and rounds) for CPUs, `FULL`, and if that is too short to time on
accelerators, one for accelerators, `GPU`. A peer is another implementation that is compared with ours;
a record, the JSON file of a case, notes the peers that were not installed. The peer of `wall` is
pastiche: the command of that name, or the one that the environment variable PASTICHE names; see
`pastiche.py`. The case `quality` can take pictures of your own and continue a measurement that was
stopped, see docs/raters.md. The peers of `peers` are torch (extra `parity`) and TensorFlow; see
`pytorch.py` and `tensorflow_tutorial.py`. The peer of `gpu` is torch: its steps by `pytorch.py`, and a
whole picture by the loop of another program, `torch_crowsonkb.py`.

The cases use public names of `nst_jax` only. The test suite runs the cases, but asserts no times.
"""
