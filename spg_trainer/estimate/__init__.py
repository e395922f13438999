"""What a training needs, computed before it starts: memory, what fits a card, and seconds of one card."""
