"""Sections that several panels show."""
