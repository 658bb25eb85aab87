"""Whole-volume inference: a network over the tiles of a scan, on any device."""
