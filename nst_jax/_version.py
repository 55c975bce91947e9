"""The version of the package; the build reads it, and results record it."""

__version__ = "0.1.0"
