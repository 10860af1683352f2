"""What probabilities are worth, and the code that proves it."""
