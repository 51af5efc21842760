"""What tests of several packages share: small models and checkpoints, peers, runs on several ranks."""
