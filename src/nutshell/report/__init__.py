"""Finished runs become what people read."""
