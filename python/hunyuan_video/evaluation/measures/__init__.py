"""Automatic metrics of videos, each with its reference and its known failure (docs/evaluation.md)."""
