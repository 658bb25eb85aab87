"""The Slicer-facing parts of DRMC: MRML nodes to the engine and back, and the runner of its child processes.

Nothing here imports torch. `runner`, `processes` and `processtree` work without Slicer and Qt too.
"""
