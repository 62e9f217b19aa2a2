"""Training: one loop for every task, exact resume, and the two stages of the method."""
