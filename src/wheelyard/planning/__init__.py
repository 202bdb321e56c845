"""What to build, in which order, and what it will take; pure."""
