"""What the labels allow to be learnt, said before any mask is trusted."""
