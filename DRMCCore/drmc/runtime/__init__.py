"""What long work needs of the machine: progress, cancel, worker processes, hardware."""
