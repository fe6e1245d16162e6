"""Labelled images on disk to tensors."""
