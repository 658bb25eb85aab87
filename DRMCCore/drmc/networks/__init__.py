"""Networks: each is a class behind one protocol (`protocol.py`) and a name in a registry (`registry.py`)."""
