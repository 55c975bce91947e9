"""The command line `nst-jax`, and everything that only the command line needs."""
