"""Loops over arrays of rows, compiled by numba: the rows of a batch that are written as prompts ask for it.

Each kernel decides what it can decide with certainty, and leaves every other row to the reader, in plain Python.
`verifiers.batch` says when a kernel is used. Importing a kernel imports numba.
"""
