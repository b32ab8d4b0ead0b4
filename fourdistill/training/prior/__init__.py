"""Training of the displacement prior on codes in memory."""
