"""Images and weights to soft class maps."""
