"""What leaves the yard: published indexes and releases."""
