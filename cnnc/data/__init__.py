"""Data sets: where they come from, how they are decoded, augmented and cut into batches."""
