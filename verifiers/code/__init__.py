"""Python functions, judged by what they return in a sealed interpreter. See docs/verifiers/code.md."""
