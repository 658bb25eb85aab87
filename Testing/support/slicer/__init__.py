"""Helpers of the tests of the Slicer modules."""
