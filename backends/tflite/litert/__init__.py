"""LiteRT: files run in this process or, where others made them, in a child."""
