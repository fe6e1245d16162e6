"""CSV: columns, tables, reading and writing."""
