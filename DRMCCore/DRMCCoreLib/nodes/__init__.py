"""MRML nodes: volumes, units, display, sequences."""
