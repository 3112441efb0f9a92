"""Batches for training and evaluation, made ahead by workers, and the checks that data fits a network."""
