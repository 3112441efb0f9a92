"""Where the time of a step goes: traces, and the compiled program's operators by layer."""
