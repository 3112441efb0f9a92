"""The Keras backend: a graph as a `keras.Model`, for interoperation and as a second opinion in tests.

`build.build` makes the model on whatever backend Keras runs on; `save.save` writes a `.keras` file or a SavedModel.
Nothing here imports Keras before one of them is asked for: which backend it runs on is settled when it is imported.
"""
