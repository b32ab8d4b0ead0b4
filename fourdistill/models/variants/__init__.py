"""What was tried beside the default, kept for comparison."""
