"""PASCAL VOC: reading labels."""
