"""Many jobs under one budget of cores and memory."""
