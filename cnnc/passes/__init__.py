"""What changes a network without changing what it computes: each pass takes a `Model` and gives one."""
