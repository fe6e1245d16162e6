"""One training loop, one small objective module per stage, weights on disk."""
