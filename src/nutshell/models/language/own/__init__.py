"""Architectures written from their formulas: a Transformer and an LSTM."""
