"""Camera poses for films that come without."""
