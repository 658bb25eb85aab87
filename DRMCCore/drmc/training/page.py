"""The page of a training, `training.html`: its state and its curves, made from the log alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from drmc.files import write_text
from drmc.pages.markup import facts_list, section, table
from drmc.pages.page import page
from drmc.pages.text import is_number, label_of, mapping, number, percent, plain
from drmc.texts import RESEARCH_USE
from drmc.training import curves
from drmc.training.history import LOG, PAGE, History, Record


def write_page(output: str | os.PathLike[str]) -> Path:
    """Writes training.html into the folder of a run, atomically.

    Returns:
        Its path.

    Raises:
        InputError: the folder has no log.
        OSError: the page cannot be written.
    """
    output = Path(output)
    log = output / LOG
    history = History.read(log)
    path = output / PAGE
    write_text(path, page_html(history, output.resolve().name, datetime.fromtimestamp(log.stat().st_mtime)))
    return path


def page_html(history: History, folder: str, written: datetime) -> str:
    """The page as text: one file without scripts or external resources.

    Args:
        history: the log.
        folder: name of the run if the log has none.
        written: time of the last record.
    """
    about, centers = history.about, history.centers
    name = str(about.get("name") or folder)
    cards = [
        section("Run", _run(history)),
        section("Validation", _validation(history.validation, centers, _VALIDATION_NOTE)),
        section("Watched beside it", _watched(history.validation)),
        section("Loss", _with_key(centers, _loss(history))),
        section("Routing", _routing(history)),
        section("Pace", curves.pace_figures(history.progress)),
        section("Configuration", _configuration(mapping(about.get("configuration")))),
    ]
    stamp = f'<p class="stamp">Last record {written:%Y-%m-%d %H:%M}</p>'
    return page(
        f"{name} – DRMC training",
        _notices(history) + "\n".join(card for card in cards if card),
        heading=f"Training of {name}",
        introduction=f'<p class="lead">{_state(history)}</p>{stamp}',
        banner=RESEARCH_USE,
        footer=RESEARCH_USE,
        style=curves.CSS,
    )


def _state(history: History) -> str:
    step, steps = history.step, history.steps
    if history.state == "finished":
        return f"<b>Finished</b> after {step:,} steps."
    if history.state == "stopped":
        return (
            f"<b>Stopped</b> at step {step:,} of {steps:,}; it goes on from there when it is started again."
        )
    return f"<b>Under way</b> at step {step:,} of {steps:,} when the last record was written."


def _notices(history: History) -> str:
    boxes = []
    if history.about.get("simulated"):
        boxes.append(
            "<b>Simulated data.</b> Trained and validated on simulated patients, not on those of a hospital."
        )
    boxes += [f"<b>Warning.</b> {escape(text)}." for text in history.about.get("warnings", [])]
    if skipped := history.last("progress", "skipped"):
        boxes.append(f"<b>{skipped:,} steps skipped</b>, because their gradients were not finite.")
    return "".join(f'<div class="box notice" role="note"><p>{text}</p></div>' for text in boxes)


def _run(history: History) -> str:
    about, machine = history.about, mapping(history.about.get("hardware"))
    cores, memory = machine.get("physical_cores"), machine.get("memory_bytes")
    parts = [
        plain(machine["gpu"]) if machine.get("gpu") else "",
        plain(machine["processor"]) if machine.get("processor") else "",
        f"{cores} core{'s' * (cores != 1)}" if is_number(cores) else "",
        f"{memory / 2**30:.0f} GiB" if is_number(memory) else "",
    ]
    board: dict[object, str] = {True: "written", False: "not installed"}
    pace, seconds = history.last("progress", "patches_per_second"), history.last("progress", "seconds")
    entries = [
        ("Centers", ", ".join(history.centers)),
        ("Hardware", ", ".join(part for part in parts if part)),
        ("Processes", plain(about["processes"]) if about.get("processes") else ""),
        ("Time in steps", _duration(seconds) if is_number(seconds) else ""),
        ("Time left", _left(history)),
        ("Patches per second", number(pace, 2) if pace else ""),
        ("Best validation", _best(history.validation)),
        ("Resumed at step", ", ".join(f"{step:,}" for step in history.resumed)),
        ("TensorBoard", board.get(about.get("tensorboard"), "")),
        ("Version", plain(about["version"]) if about.get("version") else ""),
    ]
    return facts_list((label, escape(value)) for label, value in entries if value)


def _left(history: History) -> str:
    seconds = history.seconds_left()
    return "" if seconds is None or history.state != "under way" else _duration(seconds)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return (
        f"{seconds:.0f} s"
        if minutes < 2
        else f"{minutes:.0f} min"
        if minutes < 120
        else f"{minutes / 60:.1f} h"
    )


def _best(records: Sequence[Record]) -> str:
    """The highest mean PSNR or Dice over the centers, by which the best checkpoint is chosen."""
    for key, digits, unit in (("psnr", 2, " dB"), ("dice", 3, "")):
        means = []
        for record in records:
            values = list(mapping(record.get(key)).values())
            if values and all(map(is_number, values)):
                means.append((sum(values) / len(values), record["step"]))
        if means:
            return f"{number(max(means)[0], digits)}{unit} at step {max(means)[1]:,}"
    return ""


_VALIDATION_NOTE = (
    "Held-out patients, the moving average of the weights; SUV, range 20, inside the body, in tiles chosen "
    "by uptake. The Gaussian filter’s width was chosen on these very tiles. Attainable is 10 "
    "log<sub>10</sub> of the dose reduction factor. Biases are |S − S<sub>full</sub>| / S<sub>full</sub>, "
    "the mean over lesions. In brackets: the low dose itself."
)
_ORGANS_NOTE = (
    "Held-out patients, the moving average of the weights, on voxels of 4 mm: mean Dice over the organs that "
    "are in the field. False organs are those found though absent; the side error is the share of voxels of "
    "paired organs with the other side’s label."
)
_WATCHED_NOTE = (
    "Centers of another dataset, of which nothing is trained on: whether what was known is forgotten."
)


def _validation(records: Sequence[Record], centers: Sequence[str], note: str) -> str:
    if not records:
        return ""
    if "dice" in records[-1]:
        figures = curves.organ_figures(records, centers)
        return f'<p class="note">{_ORGANS_NOTE}</p>{curves.key_html(centers)}{figures}'
    references = any("psnr_gaussian" in record for record in records)
    figures = curves.validation_figures(records, centers)
    key = curves.key_html(centers, references=references)
    return f'<p class="note">{note}</p>{_latest(records[-1], centers)}<h3>Curves</h3>{key}{figures}'


def _watched(records: Sequence[Record]) -> str:
    """The validation of another dataset, which records of fine-tuning contain under `watched`."""
    watched = [{**r["watched"], "step": r["step"]} for r in records if isinstance(r.get("watched"), Mapping)]
    return _validation(watched, list(mapping(watched[-1].get("psnr"))), _WATCHED_NOTE) if watched else ""


def _latest(record: Record, centers: Sequence[str]) -> str:
    titles = ("PSNR [dB]", "Gain [dB]", "Gaussian’s gain [dB]", "Of attainable", "NRMSE", "B_mean", "B_max")
    head = f'<th class="text">At step {record["step"]:,}</th>' + "".join(
        f"<th>{title}</th>" for title in titles
    )

    def of(key: str, center: str) -> Any:
        return mapping(record.get(key)).get(center)

    def gain(key: str, center: str) -> str:
        values = of(key, center), of("psnr_low", center)
        return number(values[0] - values[1], 2, sign=True, fixed=True) if all(map(is_number, values)) else "–"

    lines = []
    for center in centers:
        cells = [
            f"{number(of('psnr', center), 2)} ({number(of('psnr_low', center), 2)})",
            gain("psnr", center),
        ]
        width = of("gaussian_fwhm_mm", center)
        cells.append(gain("psnr_gaussian", center) + (f" ({width:g} mm)" if is_number(width) else ""))
        share = of("share", center)
        cells.append(percent(100 * share, digits=0, sign=False) if is_number(share) else "–")
        for key in ("nrmse", "b_mean", "b_max"):
            low = of(f"{key}_low", center)
            cells.append(number(of(key, center), 3) + (f" ({number(low, 3)})" if is_number(low) else ""))
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr><td class="text">{escape(center)}</td>{row}</tr>')
    return table(head, lines)


def _loss(history: History) -> str:
    network = mapping(mapping(history.about.get("configuration")).get("network"))
    name = "Loss" if str(network.get("kind")).startswith("organ") else "Charbonnier loss"
    return curves.loss_figures(history.progress, history.centers, name)


def _with_key(centers: Sequence[str], figures: str) -> str:
    return curves.key_html(centers) + figures if figures else ""


def _routing(history: History) -> str:
    figures = _with_key(history.centers, curves.routing_figures(history.progress, history.centers))
    usage = mapping(history.last("progress", "usage"))
    if usage:
        figures += (
            "<h3>Which experts each center uses</h3>"
            '<p class="note">Share of each expert in the sum of its bank’s gates, mean over the patches of '
            "the last record.</p>" + curves.usage_html(usage)
        )
    return figures and (
        '<p class="note">A gate of exactly 0 closes its expert; dashed: banks in which a patch closed all of '
        "them. Evenness is the entropy of a center’s use of the experts, the mean over layers: 1 where all "
        f"are used alike, 0 where one is used alone.</p>{figures}"
    )


def _configuration(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    listed = facts_list((escape(label_of(key)), escape(plain(value))) for key, value in values.items())
    return f"<details><summary>Every setting of this run</summary>{listed}</details>"
