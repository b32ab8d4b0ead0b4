"""Alternatives to the default models, kept for comparison."""
