"""Training of the mappers through the frozen U-Net."""
