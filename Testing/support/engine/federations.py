"""What tests of the federation share: two small hospitals, their plan, the same training in one process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from drmc.federation.common_model import Answer, CommonModel
from drmc.federation.member import FINISH, TRAIN, VALIDATE, Member
from drmc.federation.plan import Plan
from drmc.federation.site import SiteSettings
from drmc.models.registry import find_model
from drmc.models.weights import load_network
from drmc.training.config import TrainingConfig

from support.engine.small_training import TINY, make_dataset

SITES = {"hospital-a": "A", "hospital-b": "B"}
PATIENTS = {"A": 2, "B": 1}
TRAINING: dict[str, Any] = {
    **{
        "name": "tiny",
        "network": {"kind": "drmc", **TINY.to_dict()},
        "patch": 8,
        "steps": 6,
        "round_steps": 2,
    },
    **{
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "validate_every": 4,
        "checkpoint_every": 1,
        "export": "last",
    },
}


def make_hospitals(folder: Path) -> Path:
    """The datasets of two hospitals, with two patients and one; and `both`, one dataset of all of them."""
    both = make_dataset(folder / "both")
    manifest = json.loads((both / "dataset.json").read_text())
    manifest["cases"] = [case for case in manifest["cases"] if case["id"] != "B-train-1"]
    (both / "dataset.json").write_text(json.dumps(manifest))
    for site, center in SITES.items():
        mine = [case for case in manifest["cases"] if case["center"] == center]
        (folder / site).mkdir()
        for case in mine:
            (both / case["id"]).rename(folder / site / case["id"])
            (both / case["id"]).symlink_to(folder / site / case["id"])
        (folder / site / "dataset.json").write_text(json.dumps({**manifest, "cases": mine}))
    return folder


def small_plan(**changes: Any) -> Plan:
    training = {**TRAINING, **changes.pop("training", {})}
    given = {"server": "localhost", "lead": "lead@example.org", "sites": SITES, "training": training}
    return Plan(**{**given, **changes})


def settings(hospitals: Path, output: Path, site: str) -> SiteSettings:
    return SiteSettings(str(hospitals / site), str(output / site), threads=1)


def members(plan: Plan, hospitals: Path, output: Path) -> dict[str, Member]:
    return {site: Member(plan, site, settings(hospitals, output, site)) for site in plan.sites}


def take_round(common: CommonModel, sites: dict[str, Member]) -> None:
    """One round, without a network between server and sites."""
    about = {"round": common.next_round.number}
    answers = {}
    for site, member in reversed(sites.items()):  # the order in which they answer does not count
        answers[site] = Answer(*member.answer(TRAIN, dict(common.arrays), about))
        common.check(site, answers[site])
    common.take_round(answers)


def finish(common: CommonModel, sites: dict[str, Member]) -> dict[str, dict[str, float]]:
    common.judge({site: member.answer(VALIDATE, common.arrays, {})[1] for site, member in sites.items()})
    arrays, about = common.finish()
    return {site: member.answer(FINISH, arrays, about)[1] for site, member in sites.items()}


def federate(plan: Plan, hospitals: Path, output: Path) -> CommonModel:
    """A whole federated training in this process, into OUTPUT/server and OUTPUT/SITE."""
    common, sites = CommonModel(plan, output / "server"), members(plan, hospitals, output)
    while common.next_round is not None:
        take_round(common, sites)
    finish(common, sites)
    for member in sites.values():
        member.close()
    return common


def together(plan: Plan, hospitals: Path, output: Path) -> TrainingConfig:
    """The configuration of the same training in one process, with the data of both hospitals."""
    return replace(plan.config(str(hospitals / "both"), str(output)), threads=1)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_network(find_model(path))[0].state_dict())


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)
