"""The publication's figures beside ours: means of its abstract alone; none of a single organ is known.

Wang H, Qiao X, Ding W, et al., Eur J Nucl Med Mol Imaging 2025, doi 10.1007/s00259-025-07156-8. The abstract
does not say which of its four figures belongs to which condition: they are never labeled.
"""

from __future__ import annotations

from collections.abc import Sequence

from drmc.evaluation.organs.aims import words
from drmc.evaluation.organs.cases import LABEL_MAP, PROCEDURAL
from drmc.evaluation.organs.groups import CONDITIONS, TRACER, find
from drmc.evaluation.organs.records import Group
from drmc.evaluation.tables import number

HEAD = (
    "",
    "paper (798 real patients, 23 organs from CT)",
    "ours (simulated patients, 23 organs of our own list)",
)
FDG = (0.834, 0.825, 0.819, 0.816)
TRACERS = {"DOTATATE": 0.737, "FAPI": 0.573, "FDG": 0.830, "Grazytracer": 0.661, "PSMA": 0.708}
OURS = {"PSMA": "PSMA-11"}
NOT_SIMULATED = ("Grazytracer",)
SENTENCE = (
    "Our patients are simulated: anatomy, uptake and labels come from the same program, so that labels are "
    "exact and shapes are simpler than in people. These numbers show that the software works and how "
    "conditions compare; they are not comparable with the paper's and say nothing about patients. The list "
    "of organs is ours."
)
SHORT = "Simulated patients; not comparable with figures of real ones, and they say nothing about patients."


def sentence(found: Sequence[Group]) -> str:
    """What must be said with any of our figures, with the one on anatomies that the program did not draw."""
    dice = {c: find(found, anatomy=LABEL_MAP, condition=c) for c in CONDITIONS}
    told = [f"{number(g['dice']['mean'], 3)} ({words(c)})" for c, g in dice.items() if g is not None]
    return (
        f"{SENTENCE} On anatomies that the program did not draw (a label map given as the patient) the mean "
        f"Dice {'is ' + ', '.join(told) if told else 'was not measured'}."
    )


def lines(found: Sequence[Group]) -> list[list[str]]:
    """The rows of the table of `HEAD`."""
    mean = lambda tracer, condition: _mean(found, tracer, condition)
    ours = ", ".join(f"{words(c)} {mean('FDG', c)}" for c in CONDITIONS)
    tracers = [
        "not simulated" if name in NOT_SIMULATED else mean(OURS.get(name, name), CONDITIONS[0])
        for name in TRACERS
    ]
    return [
        [
            "FDG, four conditions as in its abstract (which is which is not stated)",
            ", ".join(number(value, 3) for value in FDG),
            ours,
        ],
        [
            " / ".join(TRACERS) + f" (ours: {words(CONDITIONS[0])})",
            " / ".join(number(value, 3) for value in TRACERS.values()),
            " / ".join(tracers),
        ],
    ]


def _mean(found: Sequence[Group], tracer: str, condition: str) -> str:
    group = find(found, anatomy=PROCEDURAL, condition=condition, by=TRACER, value=tracer)
    return "not measured" if group is None else number(group["dice"]["mean"], 3)
