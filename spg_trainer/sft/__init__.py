"""`sft`: a base model from demonstrations and habits."""
