"""Scores to masks."""
