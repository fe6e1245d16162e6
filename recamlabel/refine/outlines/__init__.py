"""Outlines of objects from a promptable segmenter, for regions that agree with them."""
