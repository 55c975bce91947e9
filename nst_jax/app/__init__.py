"""The command-line program `nst-jax`, and all modules that only this program needs."""
