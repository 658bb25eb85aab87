"""The facts of a run for its page: messages, scan and SUV, model and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from drmc.models.card import earlier_trainings
from drmc.pages.markup import facts_list, section, table
from drmc.pages.text import is_number, label_of, mapping, number, percent, plain, strings, unique
from drmc.pet.strength import strength_text
from drmc.report.summary import Summary
from drmc.suv.decision import SUVRecord

if TYPE_CHECKING:
    from drmc.imaging.geometry import Geometry


_UNKNOWN = "not stated"


def messages_html(suv: SUVRecord, summary: Summary) -> str:
    """The notices and warnings of a run, as HTML."""
    reference = mapping(mapping(summary.get("reference")).get("suv"))
    warnings = unique(
        [
            *strings(suv.get("warnings")),
            *(f"Full-dose reference: {text}" for text in strings(reference.get("warnings"))),
        ]
    )
    notices = unique([*strings(suv.get("notices")), *strings(summary.get("notices"))])
    notices = [notice for notice in notices if notice not in warnings]
    if not warnings and not notices:
        return ""
    parts = []
    for kind, label, messages in (("warning", "Warning", warnings), ("notice", "Notice", notices)):
        if messages:
            items = "".join(f"<li>{escape(message)}</li>" for message in messages)
            plural = label + ("s" if len(messages) > 1 else "")
            parts.append(f'<div class="box {kind}" role="note"><p><b>{plural}</b></p><ul>{items}</ul></div>')
    return section("Please read first", "".join(parts))


# ---- scan and SUV


def sheet_html(suv: SUVRecord, header: Mapping[str, Any], geometry: Geometry) -> str:
    """The scan and its SUV decision as lists of facts, as HTML; `header`: facts from the scan's header."""
    facts: dict[str, Any] = {**header, **suv, **mapping(suv.get("facts"))}
    used: set[str] = set()

    def fact(key: str) -> Any:
        used.add(key)
        return None if facts.get(key) in (None, "", [], {}) else facts[key]

    def measure(key: str, digits: int, unit: str, factor: float = 1.0) -> str | None:
        value = fact(key)
        return f"{number(value * factor, digits)} {unit}" if is_number(value) else None

    def joined(separator: str, *keys: str) -> str | None:
        return separator.join(plain(value) for key in keys if (value := fact(key))) or None

    kind, formula, half_life = fact("type"), fact("suv_formula"), fact("half_life_s")
    spacing = " × ".join(f"{value:.4g}" for value in geometry.spacing)
    size = " × ".join(str(count) for count in reversed(geometry.shape))
    entries: list[tuple[str, Any]] = [
        ("SUV type", f"{plain(kind)} ({plain(formula)})" if kind and formula else kind),
        ("SUV factor", _factor_text(fact("factor"), fact("factor_per_slice"), fact("units"))),
        ("Rule of the reference time", fact("rule")),
        ("Reference time", fact("reference_time")),
        ("Injection", fact("administration_time")),
        ("Uptake time", measure("uptake_minutes", 1, "min")),
        ("Weight", measure("weight_kg", 1, "kg")),
        ("Height", measure("height_m", 2, "m")),
        ("Sex", fact("sex")),
        ("Tracer", fact("tracer")),
        ("Injected activity", measure("dose_bq", 1, "MBq", 1e-6)),
        ("Half-life", f"{half_life:g} s" if is_number(half_life) else None),
        ("Decay correction", fact("decay_correction")),
        ("Scanner", joined(" ", "manufacturer", "model")),
        ("Reconstruction", joined(", ", "reconstruction", "filter")),
        ("Voxels", f"{size}, each {spacing} mm"),
        ("SUV rule’s source", fact("source")),
    ]
    sheet = facts_list(
        (label, _UNKNOWN if value is None else escape(plain(value))) for label, value in entries
    )
    parts = [sheet, _candidates(suv.get("candidates"))]
    rest = {
        key: value
        for key, value in {**header, **mapping(suv.get("facts"))}.items()
        if key not in used and value not in (None, "", [], {})
    }
    if rest:
        listed = _as_facts(rest)
        parts.append(f"<details><summary>More from the file’s header</summary>{listed}</details>")
    return "".join(parts)


def _factor_text(factor: Any, per_slice: Any, units: Any) -> str | None:
    """The SUV factor, or its range if it differs between slices, with the units that it multiplies."""
    slices = [value for value in per_slice or () if is_number(value)]
    if slices and min(slices) != max(slices):
        text = f"{min(slices):.6g} to {max(slices):.6g}, per slice"
    elif is_number(factor):
        text = f"{factor:.6g}"
    else:
        return None
    return f"{text} per {plain(units)}" if units else text


def _candidates(candidates: Any) -> str:
    if not isinstance(candidates, Sequence) or isinstance(candidates, str) or not candidates:
        return ""
    lines = []
    for candidate in candidates:
        candidate = mapping(candidate)
        plausible = candidate.get("plausible")
        lines.append(
            f'<tr><td class="text">{escape(plain(candidate.get("rule", "")))}</td>'
            f'<td class="text">{escape(plain(candidate.get("time") or "–"))}</td>'
            f"<td>{percent(candidate.get('difference_percent'), digits=2)}</td>"
            f'<td class="text">{"–" if plausible is None else "yes" if plausible else "no"}</td>'
            f'<td class="text wrap">{escape(plain(candidate.get("note") or ""))}</td></tr>'
        )
    titles = ("Rule", "Time", "Effect on SUV", "Plausible", "Why")
    head = "".join(
        f"<th>{title}</th>" if title == "Effect on SUV" else f'<th class="text">{title}</th>'
        for title in titles
    )
    return f"<details><summary>Every candidate for the reference time</summary>{table(head, lines)}</details>"


# ---- model, run


def training_box(training: Mapping[str, Any]) -> str:
    """What a reader must know of a model's training, as HTML; empty for real patients.

    Args:
        training: the facts under `training` in its card; empty without a card.
    """
    if training.get("simulated"):
        return (
            '<div class="box notice"><p><b>Trained on simulated data.</b> This model has seen simulated '
            "patients, and not those of any hospital; what it does to real scans is to be examined, not "
            "assumed.</p></div>"
        )
    if not training:
        return (
            '<div class="box notice"><p><b>Training unknown.</b> No model card came with this weight file, '
            "so what it was trained on cannot be said.</p></div>"
        )
    return ""


def model_html(summary: Summary) -> str:
    """The model and the run as lists of facts, as HTML."""
    model = mapping(summary.get("model"))
    training = mapping(model.get("training"))
    parts = [box for box in (training_box(training),) if box]
    parameters, tile = model.get("parameters"), model.get("tile")
    entries: list[tuple[str, str]] = [
        ("Model", escape(plain(model.get("name") or _UNKNOWN))),
        ("Checksum (SHA-256)", f"<code>{escape(plain(model.get('sha256') or _UNKNOWN))}</code>"),
        ("Parameters", f"{parameters:,}" if isinstance(parameters, int) else _UNKNOWN),
        ("Tile", f"{escape(plain(tile))} voxels of the network's grid per edge" if tile else _UNKNOWN),
        ("Device", escape(plain(summary.get("device") or _UNKNOWN))),
        ("Precision", escape(plain(summary.get("precision") or _UNKNOWN))),
        ("Time", _seconds(summary.get("seconds"))),
    ]
    strength = summary.get("strength")
    if strength is not None:
        entries.insert(0, ("Strength", f"{strength_text(strength)}: {100 * strength:g} % of the residual"))
    memory = summary.get("peak_memory_bytes")
    if memory is not None and is_number(memory):
        entries.append(("Peak memory", f"{memory / 2**30:.2f} GiB"))
    versions = ", ".join(f"{name} {plain(value)}" for name, value in mapping(summary.get("versions")).items())
    if versions:
        entries.append(("Versions", escape(versions)))
    parts.append(facts_list(entries))
    if training:
        parts.append(f"<h3>Trained on</h3>{_as_facts(training)}")
    for name, earlier in earlier_trainings(training):
        parts.append(f"<h3>It began from {escape(name)}, trained on</h3>{_as_facts(earlier)}")
    return "".join(parts)


def _as_facts(values: Mapping[str, Any]) -> str:
    return facts_list(
        (escape(label_of(key)), escape(plain(value)))
        for key, value in values.items()
        if key != "initial_weights"
    )


def _seconds(seconds: Any) -> str:
    if is_number(seconds):
        return f"{seconds:.1f} s"
    stages = {key: value for key, value in mapping(seconds).items() if is_number(value)}
    if not stages:
        return _UNKNOWN
    total = stages.get("total")
    named = ", ".join(
        f"{escape(label_of(key).lower())} {value:.1f} s" for key, value in stages.items() if key != "total"
    )
    return f"{total:.1f} s ({named})" if total is not None and named else named or f"{total:.1f} s"
