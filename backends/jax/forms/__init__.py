"""Several ways to compute a convolution, a pool or a batch norm on a CPU, and the choice among them by measurement."""
