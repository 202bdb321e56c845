"""Holds outcome.json: what the build of this wheel could reach."""

__version__ = "1.0.0"
