"""Public data sets to folders that the readers read."""
