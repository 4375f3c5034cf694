"""What enclaves of this user there are: which session's, who uses them, which are kept for later."""
