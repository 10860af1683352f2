"""Takes each seed to a complete folder, through an exact Trainer."""
