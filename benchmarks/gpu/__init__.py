"""The parts of `python benchmarks/gpu.py`: build, tests, sanitizer and the table of kernels and models on a GPU."""
