"""One reader for each format of weights: safetensors, PyTorch, Keras, NumPy, Orbax, TFLite, Caffe."""
