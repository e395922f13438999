"""Support for an author's own code: a file to start from, calls of `async` methods, reward functions."""
