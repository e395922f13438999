"""A model in numbers, from its files: what is known without opening its weights. Imports no transformers by itself."""
