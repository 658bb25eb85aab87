"""Training across hospitals whose data stay where they are: only weights and a few numbers travel.

What is learned at a site (`member`) and averaged at the server (`common_model`) knows of no connection.
NVIDIA FLARE, which `pip install drmc[federation]` installs, carries it and calls `executor` and `controller`.
"""
