"""Whether a result is still what a run would give: all its files are there, and it was made from the same content."""

from __future__ import annotations

from pathlib import Path

from drmc import fingerprint, pipeline
from drmc.models.card import ModelEntry
from drmc.scans import find_scan


def why_again(request: pipeline.DenoiseRequest, entry: ModelEntry) -> str | None:
    """Why the request has to be computed, in words ("" where there is no result yet); None where its output folder
    holds the same result already. Raises InputError where the scan cannot be found."""
    output = Path(request.output)
    earlier = pipeline.earlier_summary(output)
    if earlier is None:
        return ""
    now = pipeline.fingerprint_of(request, find_scan(Path(request.input)), entry)
    differ = fingerprint.differences(earlier.get("fingerprint"), now)
    if differ:
        return ", ".join(differ)
    names = pipeline.output_names(request, with_lesions=request.lesions is not None)
    if earlier["outputs"] != names or not all(pipeline.is_output(output / name, earlier) for name in names):
        return "some of its files were gone"
    return None
