"""Scores against true masks: the only package that reads them."""
