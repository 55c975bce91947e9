"""The steps of the documentation's build that `docs/conf.py` connects."""
