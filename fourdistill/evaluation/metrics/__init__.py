"""How the pictures are scored."""
