"""Checks of a dataset before a network is trained on it: files, pairs, units, doses, duplicates, fingerprint."""
