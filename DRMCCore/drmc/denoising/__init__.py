"""The one path of command line, batch and Slicer: from a scan on disk to a denoised scan and its numbers."""
