"""Problems that stand in files or on the hub: published sets, a user's own rows, texts to imitate."""
