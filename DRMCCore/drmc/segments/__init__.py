"""Segmentations of any format as masks on the grid of a scan."""
