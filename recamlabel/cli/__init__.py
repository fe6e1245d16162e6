"""One file per verb, over the same Python functions."""
