"""Pictures as arrays: decoded, turned upright, resized."""
