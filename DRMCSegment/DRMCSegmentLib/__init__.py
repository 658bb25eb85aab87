"""The library of DRMC Segment: its job, results as MRML nodes, sections of the panel. Imports no torch."""
