"""Weights that others trained: read from their files, aligned with a graph, laid out as it wants them."""
