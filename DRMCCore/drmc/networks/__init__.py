"""Networks: each a class behind one protocol (networks.protocol) and a name in one registry (networks.registry)."""
