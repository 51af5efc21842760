"""Shared parts of all op families: the native module, the choice of a kernel, plans of calls, checks, torch.library."""
