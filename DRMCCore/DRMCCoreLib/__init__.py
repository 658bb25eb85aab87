"""What the panels of DRMC share: child processes, MRML nodes, the panel's base, sections and their words."""
