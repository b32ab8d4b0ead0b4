"""Features of frames from the frozen encoders, computed once."""
