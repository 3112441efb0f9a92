"""The training step and its state: loss, gradients, optimizer, and what becomes of values that are not finite."""
