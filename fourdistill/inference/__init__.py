"""Generation: from a base, an adapter, an image and displacements to a new image."""
