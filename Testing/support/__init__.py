"""Helpers that several test modules share; tests import from here, never from each other."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
