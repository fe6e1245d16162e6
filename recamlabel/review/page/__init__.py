"""The report: self-contained HTML pages about a run."""
