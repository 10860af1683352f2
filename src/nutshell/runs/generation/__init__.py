"""Prompts become requests, and requests texts."""
