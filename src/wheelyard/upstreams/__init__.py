"""What exists outside of this machine: published indexes, upstream's releases, new versions."""
