"""What the frozen encoders make of frames, computed once."""
