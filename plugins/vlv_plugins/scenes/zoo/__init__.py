"""A permanent collection of awkward inputs, each with the outcome that a run must report."""
