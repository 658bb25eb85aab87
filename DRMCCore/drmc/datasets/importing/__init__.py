"""Datasets from a table of low-dose and full-dose scans, DICOM series or image files."""
