"""A float program to int8: ranges, scales, rounded weights, and how much of the signal is left."""
