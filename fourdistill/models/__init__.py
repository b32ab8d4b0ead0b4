"""The trained networks and the frozen base: from displacements to cross-attention conditioning."""
