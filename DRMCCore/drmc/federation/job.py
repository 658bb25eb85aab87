"""The job that the lead sends to the server: a few JSON files that name installed classes, and no code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drmc.federation.layout import CONTROLLER, END, EXECUTOR, SERVER
from drmc.federation.member import TASKS
from drmc.federation.plan import Plan
from drmc.files import write_json

_AWAY_SECONDS = 10.0  # after the server has noticed that a site lost the job


def write_job(plan: Plan, sites: Sequence[str], folder: Path) -> Path:
    """Writes the job of these sites into a new folder and returns it."""
    config = Path(folder) / plan.name / "app" / "config"
    config.mkdir(parents=True)
    filters: dict[str, list] = {"task_data_filters": [], "task_result_filters": []}
    workflow = {"id": "rounds", "path": CONTROLLER, "args": {"sites": list(sites), "plan": plan.fingerprint}}
    write_json(
        config / "config_fed_server.json",
        {"format_version": 2, "workflows": [workflow], "components": [], **filters},
    )
    executor = {"tasks": [*TASKS, END], "executor": {"path": EXECUTOR, "args": {}}}
    write_json(
        config / "config_fed_client.json",
        {"format_version": 2, "executors": [executor], "components": [], **filters},
    )
    away = {"dead_client_grace_period": _AWAY_SECONDS, "dead_client_check_lead_time": _AWAY_SECONDS}
    write_json(config / "application.json", away)
    job = config.parents[1]
    write_json(
        job / "meta.json",
        {
            "name": plan.name,
            "resource_spec": {},
            "min_clients": len(sites),
            "deploy_map": {"app": [SERVER, *sites]},
        },
    )
    return job
