"""What a reviewer decided, as files."""
