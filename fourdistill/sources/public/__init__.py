"""Download of public data sets to folders that the readers can read."""
