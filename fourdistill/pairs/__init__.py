"""Frames table to pairs table: which two frames belong together, and the displacement between them."""
