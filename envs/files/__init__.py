"""Problems from files or the hub: published sets, a user's own rows, texts to imitate."""
