"""Interpreters, torch environments, CUDA toolkits and the sandbox they meet in."""
