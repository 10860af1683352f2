"""What is embedded: sentence pairs, reviews, and a manual."""
