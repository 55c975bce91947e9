"""The version of the package. The build reads it, and painted pictures and checkpoints record it."""

__version__ = "0.1.0"
