"""Which layer of a file is which node of a graph: as the user says, by name, by shape and by connections."""
