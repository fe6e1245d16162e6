"""A small drawn data set with exact masks, for a first run and for benchmarks."""
