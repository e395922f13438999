"""What a problem asks for, and whether an answer is finished and in that form."""
