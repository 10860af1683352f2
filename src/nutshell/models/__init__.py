"""The thin wrappers, and which checkpoints are safe to load."""
