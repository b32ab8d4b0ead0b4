"""File storage: addresses, atomic writes, sets of files, and parallel work."""
