"""Extract frames from scenes: JPEGs, and one table of all frames."""
