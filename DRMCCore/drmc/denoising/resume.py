"""Whether a result is still that of a run: all its files are there, and its inputs have the same content."""

from __future__ import annotations

from pathlib import Path

from drmc.denoising import fingerprint
from drmc.denoising.finding import find_scan
from drmc.denoising.outputs import earlier_summary, is_output, output_names
from drmc.denoising.request import DenoiseRequest
from drmc.denoising.summary import fingerprint_of
from drmc.dicom.catalog import Catalog
from drmc.models.card import ModelEntry


def why_again(request: DenoiseRequest, entry: ModelEntry, catalog: Catalog | None = None) -> str | None:
    """Why the request has to be computed; None where its output folder has the same result already.

    In words, "" where there is no result yet. `catalog`: what was read of DICOM files before. Raises
    InputError where the scan cannot be found.
    """
    catalog = catalog or Catalog()
    output = Path(request.output)
    earlier = earlier_summary(output)
    if earlier is None:
        return ""
    now = fingerprint_of(request, find_scan(Path(request.input), catalog), entry, catalog)
    differ = fingerprint.differences(earlier.get("fingerprint"), now)
    if differ:
        return ", ".join(differ)
    names = output_names(request, with_lesions=request.lesions is not None)
    if earlier["outputs"] != names or not all(is_output(output / name, earlier) for name in names):
        return "some of its files were gone"
    return None
