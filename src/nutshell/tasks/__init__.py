"""One file for each word that `task:` may say."""
