"""How well a model does on patients it has never seen, beside the low dose itself and classical filters."""
