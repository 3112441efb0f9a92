"""Random changes of pictures and of what is said of places in them, the same for the same seed."""
