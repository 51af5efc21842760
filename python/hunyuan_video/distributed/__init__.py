"""Several processes and devices: ranks, sharded weights, shared tokens, memory of the backward pass."""
