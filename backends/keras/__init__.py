"""The Keras backend: a graph as a `keras.Model`, for interoperation and as a second opinion in tests."""
