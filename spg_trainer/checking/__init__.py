"""Tries, without a model, whether an algorithm and its masking keep their contracts."""
