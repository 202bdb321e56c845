"""What this machine is: cores, memory, compilers, C library, GPU."""
