"""A consortium of one machine whose members are processes, each started by its own command."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drmc.cli.main import main
from drmc.federation.plan import Plan

from support.engine.federations import SITES, make_hospitals
from support.engine.small_training import PATIENCE


def prepare(folder: Path, plan: Plan, *kits: str) -> None:
    """Data and settings of the hospitals, and folders of kits; skips the test without NVIDIA FLARE."""
    if importlib.util.find_spec("nvflare") is None:
        strict = os.environ.get("DRMC_TEST_STRICT") == "1"
        (pytest.fail if strict else pytest.skip)("NVIDIA FLARE is not installed")
    make_hospitals(folder / "data")
    (folder / "project.json").write_text(json.dumps(plan.to_dict()))
    for site in SITES:
        settings = {"dataset": f"data/{site}", "output": f"out/{site}", "threads": 1}
        (folder / f"{site}.json").write_text(json.dumps(settings))
    for name in kits:
        assert main(["federate", "provision", str(folder / "project.json"), "-o", str(folder / name)]) == 0


def command(folder: Path, name: str, *arguments: str) -> subprocess.Popen:
    """Starts `drmc federate ARGUMENTS` in the folder; its lines go to NAME.txt."""
    with (folder / f"{name}.txt").open("w") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "drmc", "federate", *arguments],
            cwd=folder,
            stdout=lines,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def wait_for(folder: Path, name: str, text: str) -> None:
    """Waits until NAME.txt has the text."""
    end = time.monotonic() + PATIENCE
    while text not in (folder / f"{name}.txt").read_text():
        assert time.monotonic() < end, (folder / f"{name}.txt").read_text()
        time.sleep(0.2)
