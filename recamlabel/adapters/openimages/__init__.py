"""Open Images: reading and writing labels."""
