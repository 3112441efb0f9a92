"""Training a network, and the folder that a run leaves."""
