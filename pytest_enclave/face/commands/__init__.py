"""What options do in place of a session: list, remove, and look into the enclaves that are there."""
