"""Distillation: the base is frozen; words are trained to reproduce its output under an image prompt."""
