"""A 4D reconstruction of one scene, which shows it from any camera at any instant."""
