"""Weights & Biases: one tracked run for each seed, on line or off, and never in the way of the run itself."""
