"""The review in FiftyOne."""
