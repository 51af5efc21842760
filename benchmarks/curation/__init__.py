"""Curation on labelled cases that are built from packages' media, and beside its peers."""
