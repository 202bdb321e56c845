"""What this machine can build, and what it lacks."""
