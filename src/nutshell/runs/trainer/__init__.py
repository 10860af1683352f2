"""Trainer made exact, and what each kind of model adds to it."""
