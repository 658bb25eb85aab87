"""Models: weight files, their cards, and where they are found."""
