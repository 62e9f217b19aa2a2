"""What is exported, measured against what a user would pick instead: the command `vlv-bench`."""
