"""What happens, in order: fit, rounds, the review round, predict."""
