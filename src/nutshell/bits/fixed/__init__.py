"""Language models in exact integer arithmetic: the same logits, bit for bit, on every machine and in every order."""
