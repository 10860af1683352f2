"""Text for language models: documents, their tokens, windows of tokens."""
