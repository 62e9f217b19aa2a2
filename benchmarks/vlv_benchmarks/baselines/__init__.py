"""What ours is measured against where no other program does the same work."""
