"""Masks as RLE, polygons and PNG."""
