"""Checks of a dataset before training: files, pairs, units, doses, duplicates, fingerprint."""
