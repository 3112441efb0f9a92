"""Which layer of a file is which node of a graph: by the user's word, by name, by shape and by connections."""
