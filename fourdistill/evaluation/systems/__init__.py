"""Who carries it out."""
