"""A trial: the cheap ways from labels to masks on a sample, ranked, before hours go into one of them."""
