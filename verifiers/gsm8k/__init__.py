"""The verifier of GSM8K: numbers as people write them."""
