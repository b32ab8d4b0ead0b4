"""Pairs to WebDataset tars at any address, and tars to batches."""
