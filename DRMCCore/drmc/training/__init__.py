"""Training on several centers: patches drawn by a counter, the loop, strategies, checkpoints."""
