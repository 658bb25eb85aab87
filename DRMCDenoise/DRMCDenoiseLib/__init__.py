"""The library of DRMC Denoise: jobs, results as MRML nodes, sections of the panel. Imports no torch."""
