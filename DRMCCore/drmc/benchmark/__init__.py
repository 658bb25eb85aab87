"""How fast the engine is on this machine, and how much memory it takes, against the literal form of the equations."""
