"""Comparisons on a CPU: the parts of `make bench`."""
