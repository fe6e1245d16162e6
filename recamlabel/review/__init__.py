"""Looking at a run: the static report."""
