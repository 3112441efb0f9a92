"""Arrays of a file, once matched, in the layout that the graph declares."""
