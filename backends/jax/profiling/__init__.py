"""Where the time of a step goes: traces, and the operators of the compiled program by layer."""
