"""A 4D reconstruction of one scene, which renders it from any camera at any instant."""
