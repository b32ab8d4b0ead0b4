"""Poses, cameras and displacements: NumPy only, float64, OpenCV axes (+x right, +y down, +z forward)."""
