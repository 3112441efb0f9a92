"""The two sides of a match: the layers of a file, the layers of a graph, and the forms in which others write them."""
