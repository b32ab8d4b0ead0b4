"""Frames table to pairs table: pairs of frames, and the displacement between them."""
