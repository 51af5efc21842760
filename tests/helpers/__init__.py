"""Shared helpers of the tests: small models and checkpoints, peers, runs on several ranks."""
