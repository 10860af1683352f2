"""Files become rows, each with its place for messages."""
