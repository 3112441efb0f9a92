"""How good a network is: what it predicts, losses and metrics on a test set, and where two networks differ.

`predictor` says what is asked of anything that predicts, `network` and `tflite` are the two that there are; `evaluate`
measures any of them on a `test_set`; `difference` sets two side by side, layer by layer; `latency` times files.
"""
