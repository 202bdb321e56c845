"""A wheel's way: built, repaired, checked, smoke-tested."""
