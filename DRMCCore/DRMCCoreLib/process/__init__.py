"""Child processes that run the engine: started, followed and ended from Slicer."""
