"""Organs of a whole body: their table, a network over a scan, and the labels that it gives."""
