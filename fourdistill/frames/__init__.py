"""Scenes to frames: JPEGs, and one table of all of them."""
