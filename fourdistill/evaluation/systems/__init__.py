"""The systems that carry out commands."""
