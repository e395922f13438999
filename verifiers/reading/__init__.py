"""Reads answers in texts: where an answer stands, and the value that its words say. All text tasks read by it.

Only here, regular expressions are used: none of them can backtrack, so reading takes time in proportion to the text
(tests/verifiers/test_reading.py walks each pattern).
"""
