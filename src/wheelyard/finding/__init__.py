"""From the question "which combination?" to cells that have every package, with reasons."""
