"""Generation: a base, an adapter, an image and displacements in; a new image out."""
