"""Upstream's source: fetched, unpacked, patched."""
