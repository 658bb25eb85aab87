"""The library of DRMC Training: runs in child processes, and the panel. Imports no torch.

`trainingrun` works without Slicer and Qt too.
"""
