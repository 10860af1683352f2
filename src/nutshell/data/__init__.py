"""Data sets by name, from the Hub, a local copy or this package; their tokens; their batches."""
