"""What the Edge TPU does with a TFLite file: which operators it takes, its memory, its speed, and its compiler."""
