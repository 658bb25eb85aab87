"""Support of long-running work: progress, cancel, worker processes, hardware."""
