"""What trainers and other tools read, written from masks and labels."""
