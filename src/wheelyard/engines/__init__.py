"""Where many jobs run: on this machine."""
