"""What panels say: the engine's facts and messages in their words."""
