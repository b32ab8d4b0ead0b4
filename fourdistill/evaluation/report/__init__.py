"""Reports of an evaluation for human readers."""
