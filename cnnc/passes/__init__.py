"""Passes, which change a network without changing its function: each takes a `Model` and returns one."""
