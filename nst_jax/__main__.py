"""Entry point of `python -m nst_jax`, which does the same as the command `nst-jax`."""

import sys

from nst_jax.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
