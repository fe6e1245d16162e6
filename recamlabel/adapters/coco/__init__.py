"""COCO: reading and writing labels."""
