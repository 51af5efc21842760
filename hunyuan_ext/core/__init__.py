"""What all op families share: the native module, the choice of a kernel, plans of calls, checks, torch.library."""
