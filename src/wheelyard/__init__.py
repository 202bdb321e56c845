"""Build, check, test and serve CUDA extension wheels."""

__version__ = "0.1.0"
