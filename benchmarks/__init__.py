"""Speed of this package beside that of its peers: `make bench`. See docs/benchmarks.md."""
