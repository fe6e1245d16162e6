"""Arrays and masks on disk, always written whole or not at all."""
