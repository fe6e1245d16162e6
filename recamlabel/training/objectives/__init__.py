"""What each stage minimises."""
