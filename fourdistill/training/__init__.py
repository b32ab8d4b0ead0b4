"""Distillation: the frozen base learns nothing, words learn to say what it would be shown."""
