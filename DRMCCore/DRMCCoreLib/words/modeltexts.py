"""A model's card and a device in words."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from drmc.models.card import earlier_trainings
from drmc.texts import RESEARCH_USE
from slicer.i18n import tr as _


def cardText(entry) -> str:
    """The facts that a reader needs before using a model, as rich text; `entry` is a ModelEntry."""
    card = entry.card
    problem = card.get("problem") or _damage(entry)
    if problem:
        return f"<b>{escape(problem)}</b>"
    if not card:
        return escape(_("{name} has no card: its training data is unknown.").format(name=entry.path.name))
    training = card.get("training") or {}
    facts = [
        entry.name,
        _("{n:,} parameters").format(n=card["parameters"]) if card.get("parameters") else "",
        _("made by drmc {version}").format(version=training["version"]) if training.get("version") else "",
        _("license {name}").format(name=card["license"]) if card.get("license") else "",
        f"SHA-256 {entry.sha256[:12]}…",
    ]
    lines = [
        f"<b>{escape(str(card.get('title') or entry.name))}</b>",
        escape(_trainedOn(training)),
        *(
            escape(_("Begun from {name}. {text}").format(name=name, text=_trainedOn(earlier)))
            for name, earlier in earlier_trainings(training)
        ),
        escape(", ".join(fact for fact in facts if fact)),
        escape(str(card.get("intended_use") or RESEARCH_USE)),
    ]
    return "<br>".join(lines)


def cardLine(entry) -> str:
    """What a model is, in one line of rich text."""
    problem = entry.card.get("problem") or _damage(entry)
    if problem or not entry.card:
        return cardText(entry)
    training = entry.card.get("training") or {}
    patients = training.get("patients")
    if not isinstance(patients, dict) or not patients:
        return escape(_trainedOn(training))
    kind = {True: _("simulated patients"), False: _("real patients")}.get(
        training.get("simulated"), _("patients")
    )
    return escape(
        _("Trained on {count} {kind} of {centers}.").format(
            count=sum(patients.values()), kind=kind, centers=", ".join(patients)
        )
    )


def wholeCard(entry) -> str:
    """The whole card, indented, and where the model is."""
    return f"{entry.path}\nSHA-256 {entry.sha256}\n\n{json.dumps(entry.card, indent=2, ensure_ascii=False)}"


def deviceText(found: dict[str, Any], wanted: str) -> str:
    """The device that `--device wanted` uses on this computer, and why; `found` as `drmc devices --json`."""
    one = chosenDevice(found, wanted)
    if one is None:
        return missingDevice(wanted)
    if one["kind"] == "cpu":
        text = _("CPU, {n} cores").format(n=one["cores"]) if one["cores"] != 1 else _("CPU, 1 core")
    else:
        text = one["title"]
    if one["free_bytes"] is not None:
        text += _(", {free:.1f} GB free").format(free=one["free_bytes"] / 1e9)
    if wanted == "auto":
        text += f" ({found['why']})"
    elif wanted == "cpu" and found["auto"] != "cpu":
        text += _(" (as chosen; auto takes {name})").format(name=chosenDevice(found, "auto")["title"])
    return text


def chosenDevice(found: dict[str, Any], wanted: str) -> dict[str, Any] | None:
    """The device that `--device wanted` uses, None if this computer has none."""
    name = found["auto"] if wanted == "auto" else wanted
    return next((one for one in found["devices"] if name in (one["name"], one["kind"])), None)


def missingDevice(wanted: str) -> str:
    """The error of a chosen device that this computer does not have."""
    title = {"cuda": _("CUDA graphics card"), "mps": _("Apple GPU")}.get(wanted, wanted)
    return _("PyTorch finds no {title} here: choose auto or cpu").format(title=title)


def _trainedOn(training: dict[str, Any]) -> str:
    simulated = training.get("simulated")
    kind = {True: _("Simulated patients"), False: _("Real patients")}.get(
        simulated, _("Patients of unknown origin")
    )
    patients = training.get("patients")
    centers = ""
    if isinstance(patients, dict) and patients:
        centers = ": " + ", ".join(f"{count} × {center}" for center, count in patients.items())
    data = training.get("data")
    return _("Trained on {kind}{centers}.").format(kind=kind[0].lower() + kind[1:], centers=centers) + (
        f" {data}" if data and not centers else ""
    )


def _damage(entry) -> str:
    expected = entry.card.get("sha256")
    if expected is None or expected == entry.sha256:
        return ""
    return _("{name} is damaged, or not the file that its card belongs to: its SHA-256 is another.").format(
        name=entry.path.name
    )
