"""The commands of an evaluation."""
