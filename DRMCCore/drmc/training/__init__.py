"""Multi-center training: manifest, counter-based sampling, loop, checkpoints."""
