"""The command line: `nst-jax` and everything that only it needs."""
