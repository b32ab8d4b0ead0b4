"""What an evaluation asks for."""
