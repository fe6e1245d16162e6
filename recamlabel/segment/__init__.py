"""The trained segmenter at work: probabilities over scales and flips, masks of new images."""
