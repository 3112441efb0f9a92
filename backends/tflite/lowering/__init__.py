"""A graph to a float program of TFLite operators."""
