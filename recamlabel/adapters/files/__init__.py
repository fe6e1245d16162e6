"""Finding and reading the files that labels come in."""
