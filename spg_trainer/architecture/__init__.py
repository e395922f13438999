"""A model in numbers, from its files: what is known without opening its weights. Imports no transformers by itself.

The layers of a model, which compute with its weights, are in `models/body.py`.
"""
