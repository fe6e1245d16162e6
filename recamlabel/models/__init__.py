"""Networks and their algebra: no files, no devices."""
