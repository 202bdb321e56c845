"""Finished wheels, their records and reports, and the index made from them."""
