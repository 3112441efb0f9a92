"""Random changes of pictures and of the masks that go with them, the same for the same seed."""
