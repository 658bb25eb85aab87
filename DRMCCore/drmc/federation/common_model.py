"""The server's part: the weights of all sites, their mean after each round, and which of them were best."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drmc.errors import DRMCError, InputError
from drmc.federation.arrays import AVERAGE, NETWORK, Arrays, arrays_of, check_arrays, named
from drmc.federation.models import write_common_model
from drmc.federation.plan import Plan, Round, numbers_of, rounds
from drmc.files import jsonable
from drmc.training.checkpoint import read_checkpoint, write_checkpoint
from drmc.training.strategies.base import weighted_mean
from drmc.training.tasks.registry import make_task

LOG = "rounds.jsonl"


@dataclass(frozen=True)
class Answer:
    """What a site sent back."""

    arrays: Arrays
    numbers: dict[str, float]


class CommonModel:
    """The weights of all sites, kept in a folder, so that a run goes on after any fault.

    Attributes:
        plan: what the consortium agreed on.
        rounds: the rounds of the run.
        number: how many of them are done.
        arrays: the weights after them.
        validation: what each site measured of the last weights that were validated, and their step.
    """

    def __init__(self, plan: Plan, folder: Path):
        """Reads the state of the run from the folder, or makes the weights at its start.

        Raises:
            InputError: the folder holds the run of another plan.
        """
        self.plan, self.folder = plan, Path(folder)
        self.config = plan.config()
        self.rounds = rounds(self.config)
        self.validation: dict[str, Any] = {}
        self._judged: dict[str, float] = {}
        self._facts: dict[str, dict[str, float]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        found = read_checkpoint(self.folder)
        if found is not None:
            path, state = found
            if state["plan"] != plan.fingerprint:
                raise InputError(
                    f"{path}: belongs to the run of another plan: move the folder away to start anew"
                )
            self.number, self._best = state["number"], state["best"]
            self._judged, self._facts = state["judged"], state["facts"]
            self.arrays = arrays_of(state["arrays"])
        else:
            network = make_task(self.config).initial_network()
            self.number, self._best = 0, -math.inf
            self.arrays = arrays_of({**named(network, NETWORK), **named(network, AVERAGE)})

    @property
    def step(self) -> int:
        """The steps that the weights have taken."""
        return self.rounds[self.number - 1].last if self.number else 0

    @property
    def next_round(self) -> Round | None:
        """The round to take, None after the last one."""
        return self.rounds[self.number] if self.number < len(self.rounds) else None

    def check(self, site: str, answer: Answer) -> None:
        """Checks a site's answer to a round.

        Raises:
            DRMCError: its weights do not fit or are not finite, or it says no number of patients.
        """
        check_arrays(answer.arrays, {name: array.shape for name, array in self.arrays.items()}, site)
        patients = answer.numbers.get("patients", 0)
        if not (math.isfinite(patients) and patients >= 1):
            raise DRMCError(f"{site}: sent no number of training patients")

    def take_round(self, answers: Mapping[str, Answer]) -> None:
        """Replaces the weights by the mean of the sites' own, weighted by patients, and keeps them.

        The sum is taken in the order of the plan, so that its bits do not depend on who was first.

        Args:
            answers: of the sites that took part, which were checked.

        Raises:
            OSError: the disk is full.
        """
        this = self.rounds[self.number]
        there = [site for site in self.plan.sites if site in answers]
        if this.judged:
            self.judge({site: answers[site].numbers for site in there})
        patients = [answers[site].numbers["patients"] for site in there]
        shares = [count / sum(patients) for count in patients]
        before, self.arrays = self.arrays, {}
        for name in before:
            values = [torch.from_numpy(answers[site].arrays[name]) for site in there]
            self.arrays[name] = weighted_mean(values, shares).numpy()
        self.number += 1
        for site in there:
            known = ("patients", "simulated")
            self._facts[site] = {key: answers[site].numbers.get(key, 0.0) for key in known}
        self._save()
        self._log(
            event="round",
            round=this.number,
            step=this.last,
            away=[site for site in self.plan.sites if site not in answers],
            patients=dict(zip(there, patients, strict=True)),
            loss={site: answers[site].numbers.get("loss") for site in there},
            change={site: _change(answers[site].arrays, before) for site in there},
        )

    def judge(self, numbers: Mapping[str, Mapping[str, float]]) -> None:
        """Takes the sites' validations of the present weights, and keeps the best weights.

        The gain is the mean over the sites that said one.
        """
        found = {site: numbers_of(values, "validation") for site, values in numbers.items()}
        gains = [scores["gain"] for scores in found.values() if "gain" in scores]
        self._judged = {}
        if gains:
            self._judged = {"validation_gain": float(np.mean(gains))}
            values = [scores["psnr"] for scores in found.values() if "psnr" in scores]
            self._judged |= {"validation_psnr": float(np.mean(values))} if values else {}
            if float(np.mean(gains)) > self._best:
                self._best = float(np.mean(gains))
                self._save(best=True)
        self.validation = {"step": self.step, "sites": found}
        self._log(event="validation", **self.validation)

    def finish(self) -> tuple[Arrays, dict[str, Any]]:
        """Writes the model after the last round, and returns what the sites need to do the same.

        Returns:
            The weights, and the facts of `write_common_model`. With "ftl" they are those of the last round,
            from which the sites go on, otherwise those of the best validation where the plan says so.
        """
        arrays, taken, judged = self.arrays, {"weights": "last", "weights_step": self.step}, self._judged
        found = read_checkpoint(self.folder, best=True)
        if self.config.export == "best" and self.config.strategy == "fedavg" and found is not None:
            state = found[1]
            arrays, judged = arrays_of(state["arrays"]), state["judged"]
            taken = {"weights": "best", "weights_step": state["step"]}
        patients = {f"patients.{self.plan.sites[site]}": f["patients"] for site, f in self._facts.items()}
        simulated = any(facts["simulated"] for facts in self._facts.values())
        about = {**taken, **patients, **judged, "simulated": float(simulated)}
        write_common_model(self.config, self.folder, arrays, about)
        return arrays, about

    def note(self, event: str, **fields: Any) -> None:
        """Writes a record into the log."""
        self._log(event=event, **fields)

    def _save(self, *, best: bool = False) -> None:
        state = {
            "plan": self.plan.fingerprint,
            "number": self.number,
            "step": self.step,
            "best": self._best,
            "judged": self._judged,
            "facts": self._facts,
            "arrays": {name: torch.from_numpy(array) for name, array in self.arrays.items()},
        }
        write_checkpoint(self.folder, state, best=best)

    def _log(self, **record: Any) -> None:
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(jsonable(record), allow_nan=False) + "\n")


def _change(arrays: Arrays, before: Arrays) -> float:
    """How far a site moved the network's weights in the round, RMS over all of them."""
    names = [name for name in arrays if name.startswith(f"{NETWORK}.")]
    squares = sum(float(np.sum((arrays[n].astype(np.float64) - before[n]) ** 2)) for n in names)
    return math.sqrt(squares / sum(before[n].size for n in names))
