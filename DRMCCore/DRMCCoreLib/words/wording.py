"""The engine's messages in the words of the panel: remedies name widgets in place of options."""

from __future__ import annotations

import re

from slicer.i18n import tr as _

# Every option that a message of the engine names where a panel's run can meet it
# (Testing/slicer/test_wording.py).
_SIDECAR = r'write a side-car .*?\.json with "Units": "SUV" or "Bq/mL"'


def _phrases() -> tuple[tuple[str, str], ...]:
    """Patterns of messages, each with its replacement."""
    place = _("under SUV details, Reference time")
    formats = r"use --format nifti(?: or nrrd)?"
    return (
        (r"--header (\w+)", r"\1"),
        (r" \(--\w+\)", ""),
        (r"take it so with --accept-suv [\w,]+", _("choose to take it so {place}").format(place=place)),
        (r"with --accept-suv RULE", place),
        (r"with --accept-suv ([\w,]+)", rf"\1 {place}"),
        (r"use --suv-type \w+( or bw)?", _("use SUVbw")),
        (r"say what the voxels are with --units", _("say under SUV details what the voxels are")),
        (rf"{_SIDECAR}, or say --units suv", _("say under SUV details what the voxels are")),
        (
            rf"{_SIDECAR}, dose, weight and times",
            _("say under SUV details what the voxels are and the SUV of one unit"),
        ),
        (r"or name it by --model", _("or add it under Model")),
        (r"name another by --model", _("choose another under Model")),
        (r"; use --device auto or cpu", _(": choose the device auto or cpu")),
        (r"(: try|; use) --precision fp32", r"\1 fp32"),
        (formats, _("write no DICOM series")),
        (r"make (one|both) with --keep-residual", _("denoise it again")),
        (r"give (that scan|the same options), or leave out --residual", _("denoise it again")),
        (r"; or by a part of its description \(--series-description TEXT\)", ""),
        (r"choose another(?: folder)? with -o", _("choose another folder")),
        (r"is one scan, not a folder of scans: leave out .*", _("is one scan, not a folder of scans")),
        (r"a higher --threshold or --min-volume", _("a higher threshold")),
        (r"leave out --dicom-seg", _("write no DICOM segmentation")),
        (r"give an SUV as --threshold", _("choose an SUV as threshold")),
        (r"--threshold (\S+): must be", r"\1: must be"),
        (r": see drmc segment --list", ""),
        (r"none of --organs (\S+) was found", r"none of \1 was found"),
        (r"--organs (.+?): no organ", r"\1: no organ"),
        (r"--segmentation: holds the organs", _("The segmentation holds the organs")),
        (r"choose one by its UID \(--series UID\) of", _("load one of them alone:")),
    )


def inPanelWords(message: str) -> str:
    """A message of the engine with widgets of the panel in the place of command-line options."""
    for pattern, words in _phrases():
        message = re.sub(pattern, words, message)
    return message
