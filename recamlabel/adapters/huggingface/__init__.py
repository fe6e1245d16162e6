"""Hugging Face: image folders and data sets."""
