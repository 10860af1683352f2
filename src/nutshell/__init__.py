"""nutshell: small, exact experiments with BERT and GPT-2 on Hugging Face's Trainer."""
