"""Texts of the panels: the engine's facts and messages in their words."""
