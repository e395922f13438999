"""What calls an author's own code: a file to start from, `async` methods, functions of a reward."""
