"""The TFLite file: its schema, programs of operators and tensors, and how both become bytes and come back."""
