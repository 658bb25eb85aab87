"""The base of a module's panel and what every panel needs."""
