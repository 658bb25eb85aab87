"""The Slicer-facing parts of training: the run in child processes, its records, and how the panel shows them.

Nothing here imports torch. `trainingrun` works without Slicer and Qt too.
"""
