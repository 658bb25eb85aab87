"""Interference: what a step for one center does to the loss of another (equations 4 and 5)."""
