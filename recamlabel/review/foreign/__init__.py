"""Masks that come back from other tools: CVAT, Label Studio, a folder of index PNGs."""
