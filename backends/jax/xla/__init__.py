"""How XLA compiles a program, keeps it between runs, and keeps its memory between steps."""
