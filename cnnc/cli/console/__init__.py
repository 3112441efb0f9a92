"""What commands print: text on a terminal, JSON, progress, errors, and what the Edge TPU makes of a file."""
