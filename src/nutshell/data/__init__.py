"""Files become examples, tokens and windows."""
