"""Output of the commands: text on a terminal, JSON, progress, errors, and the report on the Edge TPU."""
