"""The trained networks and the frozen base: displacement in, cross-attention conditioning out."""
