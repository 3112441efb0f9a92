"""The TFLite backend: graphs to programs of TFLite operators, in float32 and in int8, and LiteRT to run them."""
