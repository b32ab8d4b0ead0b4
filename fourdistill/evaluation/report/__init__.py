"""What an evaluation shows to people."""
