"""Settings shipped for each environment and kind of model (`tiny`, `llada`); every value is measured or sourced."""
