"""A recipe for a package that nobody prepared: what its source says, and what its build answers."""
