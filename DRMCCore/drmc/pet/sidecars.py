"""The side-car JSON of an image file: which one belongs to it, and what it says.

`<stem>.json` belongs to `<stem>.nii.gz`. `pet.json` belongs to `pet.nii.gz`, or to the images of a case as
the simulator writes them beside it (full, low_drf012, truth, ...; drmc.datasets.manifest), but never to any
other image of its folder.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.imaging.formats import IMAGE_ENDINGS
from drmc.paths import AnyPath, plain

CASE = "pet.json"
# The images of a case, by the names that the manifest of a dataset gives them.
_OF_A_CASE = re.compile(r"(full|low|truth|noise_free)([_.-].*)?", re.IGNORECASE)


def find(path: Path, stem: str) -> tuple[Path | None, list[str]]:
    """The side-car of the image at `path`, whose name is `stem` and an ending, and notices on its choice."""
    own = path.with_name(f"{stem}.json")
    if own.is_file():
        return own, []
    case = path.with_name(CASE)
    if not case.is_file():
        return None, []
    if _OF_A_CASE.fullmatch(stem) and not _is_of_an_image(case):
        return case, [f"units and SUV by {CASE} of the case, the image has no side-car of its own"]
    return None, [f"{CASE} in the same folder is that of another image: not used"]


def _is_of_an_image(case: Path) -> bool:
    return any(case.with_name(f"pet{ending}").is_file() for ending in IMAGE_ENDINGS)


def read(path: AnyPath) -> dict[str, Any]:
    """The JSON object in a side-car file, with or without a byte order mark; InputError without one."""
    try:
        content = json.loads(plain(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no valid JSON ({error}): repair or remove it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no JSON object: repair or remove it")
    return content
