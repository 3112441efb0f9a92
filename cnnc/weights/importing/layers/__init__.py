"""What an import matches: the layers of a file, the layers of a graph, and the forms in which others write them."""
