"""The training loop: one step is one rollout and its updates."""
