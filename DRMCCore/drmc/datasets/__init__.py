"""Datasets on disk: their manifest, and checks before a training."""
