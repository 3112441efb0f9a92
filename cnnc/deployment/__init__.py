"""From a run, or a spec with weights, to files for devices and other frameworks, and what was done on the way."""
