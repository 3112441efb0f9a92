"""The Edge TPU and a TFLite file: which operators it takes, its memory, its speed, and its compiler."""
