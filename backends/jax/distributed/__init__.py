"""Training on several devices and in several processes: meshes, and the coordinator through which processes meet."""
