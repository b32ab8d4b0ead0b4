"""What an evaluation asks of a system: pairs and sweeps of commanded displacements, and the true frames."""
