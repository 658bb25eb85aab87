"""From a scan on disk to its organs and their numbers."""
