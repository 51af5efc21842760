"""Tasks of the training loop: what is trained, on what, with which loss."""
