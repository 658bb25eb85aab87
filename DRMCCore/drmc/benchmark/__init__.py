"""Speed and memory of the engine on this machine, against the literal form of the equations."""
