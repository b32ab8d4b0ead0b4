"""Camera poses for films that have none."""
