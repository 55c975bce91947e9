"""`python -m nst_jax` does what the command `nst-jax` does."""

import sys

from nst_jax.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
