"""Names of files in kits and of what crosses, which several parts of the federation use."""

from __future__ import annotations

from pathlib import Path

SERVER, LEAD = "server", "lead"
SITE = Path("local/site.json")  # a site's own settings
EVENTS = Path("events.jsonl")  # what a site's tasks tell its user
STOPPED = Path("stopped.json")  # in the lead's kit: the job that the lead has stopped
RUN = Path("run")  # of the server: weights, log and model
GROUP = "drmc"  # under which the server says where the run is
END = "end"
"""The last task, which only says that the training has finished everywhere."""
EXECUTOR = "drmc.federation.executor.SiteExecutor"
CONTROLLER = "drmc.federation.controller.FederatedRounds"
