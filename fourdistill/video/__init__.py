"""Convert a camera's film or image files to square JPEGs on the scene's common clock."""
