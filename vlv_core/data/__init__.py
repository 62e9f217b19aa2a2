"""Datasets, the order they are read in, and what happens to pictures that cannot be read."""
