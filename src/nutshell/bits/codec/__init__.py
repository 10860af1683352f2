"""Text to a file and back: lanes of tokens, a model and a range coder, in a container that fails aloud."""
