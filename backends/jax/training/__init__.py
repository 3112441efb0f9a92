"""The training step and its state: loss, gradient, optimizer, and what is done where a number is none."""
