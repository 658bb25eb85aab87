"""Arguments that several commands share, and what they read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.runtime.progress import add_progress_argument

if TYPE_CHECKING:
    from drmc.pet.volume import PETHeader, PETVolume

LESIONS = "label image, Slicer segmentation (.seg.nrrd), DICOM SEG or RTSTRUCT"


def add_liver(sub: argparse.ArgumentParser) -> None:
    """Adds --liver-reference."""
    sub.add_argument(
        "--liver-reference",
        metavar="SEGMENT",
        help="the segment of --lesions from which the PERCIST threshold is taken, 1.5 x mean + 2 SD "
        "(default: one called liver, where there is one)",
    )


def add_json(sub: argparse.ArgumentParser) -> None:
    """Adds --json and --progress."""
    sub.add_argument("--json", action="store_true", help="print JSON")
    add_progress_argument(sub)


def add_reading(sub: argparse.ArgumentParser) -> None:
    """Adds what says how a scan is read: series, units, SUV type, accepted rules, header values."""
    sub.add_argument(
        "--series",
        metavar="UID",
        help="SeriesInstanceUID, where a folder holds more than one series (default: the only "
        "attenuation-corrected PET)",
    )
    sub.add_argument(
        "--series-description",
        metavar="TEXT",
        help="the PET series whose description alone holds this text, in capitals or not; in a batch for "
        "every scan",
    )
    sub.add_argument(
        "--units",
        choices=("suv", "bqml", "kbqml", "mbqml", "nciml", "uciml"),
        metavar="UNITS",
        help="what a file holds that does not say so: suv, or an activity per ml (bqml, kbqml, mbqml, nciml, "
        "uciml), whose SUV its side-car JSON must then give; it is never guessed",
    )
    sub.add_argument("--suv-type", metavar="TYPE", help="SUV normalization (default bw, body weight)")
    sub.add_argument(
        "--accept-suv",
        dest="accept_rule",
        metavar="RULE",
        help="the reference-time rule to take when rules disagree (drmc suv); what is implausible and yet "
        "right: DOSE, HALF_LIFE, UPTAKE, BODY, FORMULA, SUV, PHILIPS, CLOCK; several with commas (ST,DOSE)",
    )
    sub.add_argument(
        "--header",
        action=_HeaderValue,
        default={},
        metavar="KEYWORD=VALUE",
        help="a value of the scan's DICOM header that is missing or wrong there, for its SUV alone "
        "(PatientWeight=70 in kg, RadionuclideTotalDose=3.7e8 in Bq, ...; empty: as if it were not there); "
        "may be repeated; of one scan only, a batch takes --headers",
    )


class _HeaderValue(argparse.Action):
    """Collects KEYWORD=VALUE."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        from drmc.suv import manual

        earlier = [f"{keyword}={text}" for keyword, text in namespace.header.items()]
        namespace.header = manual.parse([*earlier, values])


def add_passed_in(sub: argparse.ArgumentParser) -> None:
    """Adds --voxels and --label, for a program that has loaded the scan."""
    sub.add_argument(
        "--voxels",
        metavar="FILE",
        help="an image file with the voxels as another program has them that loaded the scan: a DICOM series "
        "is refused once they differ from it, in the place of an image file they are then read themselves",
    )
    sub.add_argument(
        "--label",
        metavar="NAME",
        help="what messages, tables and the report call the scan instead of its path",
    )


def read_scan(options: argparse.Namespace) -> tuple[Path, PETVolume]:
    """The path of the input, and the volume there; InputError where it is refused."""
    from drmc.denoising.finding import find_scan, passed_over
    from drmc.dicom.catalog import Catalog
    from drmc.pet.reading import read_volume

    path, catalog = Path(options.input), Catalog()
    scan = find_scan(path, catalog)
    volume = read_volume(
        scan,
        **scan_options(options),
        voxels=None if options.voxels is None else Path(options.voxels),
        catalog=catalog,
    )
    volume.notices[:0] = passed_over(path, scan, catalog)
    return path, volume


def read_scan_header(options: argparse.Namespace, body_percentile: float | None) -> tuple[Path, PETHeader]:
    """As `read_scan`, without reading a voxel; `body_percentile` as for `drmc.pet.reading.read_header`."""
    from drmc.denoising.finding import find_scan, passed_over
    from drmc.dicom.catalog import Catalog
    from drmc.pet.reading import read_header

    path, catalog = Path(options.input), Catalog()
    scan = find_scan(path, catalog)
    header = read_header(scan, **scan_options(options), body_percentile=body_percentile, catalog=catalog)
    header.notices[:0] = passed_over(path, scan, catalog)
    return path, header


def scan_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `read_volume` and `read_header` take of these options for a scan."""
    return {
        "series_uid": options.series,
        "series_description": options.series_description,
        "header": options.header,
        "label": options.label,
        **reading_options(options),
    }


def suv_type_of(options: argparse.Namespace) -> str:
    """The SUV type, bw by default."""
    return options.suv_type or "bw"


def reading_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `read_volume` takes of these options for a scan and for its reference alike."""
    return {"suv_type": suv_type_of(options), "accept_rule": options.accept_rule, "units": options.units}
