"""Text to tokens of an encoder, by one tokenizer from reading to saving."""
