"""Pairs to WebDataset tars, to any address, and back to batches."""
