"""Variants of the FP8 product that are compiled apart, raced on a GPU, and not shipped: see __main__.py."""
