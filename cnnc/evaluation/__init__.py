"""How good a network is: losses and metrics on a test set, and where two networks differ.

`of_run` measures the weights of a run, `of_tflite` a file on LiteRT; `test_set` and `class_labels` say what they are
measured against; `difference` sets two networks side by side, layer by layer; `latency` times them.
"""
