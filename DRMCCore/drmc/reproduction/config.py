"""The configuration of a reproduction: JSON, unknown keys refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drmc.datasets.manifest import SPLITS
from drmc.errors import InputError
from drmc.evaluation.config import FILTERS, RESERVED
from drmc.files import read_json_object
from drmc.settings import check, from_json, located, setting

TABLES = (2, 3, 4, 5, 6, 7)
SCANNERS = ("own", "tiny")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FILES = Path(__file__).parent
TINY = _FILES / "tiny.json"


@dataclass(frozen=True)
class Cohort:
    """Patients to simulate, unless the dataset has as many of each center already.

    Those of the split "test" belong to `test_dataset`, all others to `dataset`.

    Attributes:
        centers: names of Table 1.
        patients: number of each center.
        seed: of the patients.
        split: train, validation or test.
        axial_mm: length of the axial window, None: the whole body.
        doses: dose reduction factors, None: the center's own.
        many_lesions: share of the patients with tens of lesions of every size and contrast.
        noise_free: also the full dose without noise, which some targets of a training need.
        scanner: "tiny" simulates with few and large voxels: shows that all runs.
    """

    centers: tuple[str, ...] = setting(not_empty=True)
    patients: int = setting(at_least=1)
    seed: int = setting(at_least=0)
    split: str = setting("train", choices=SPLITS)
    axial_mm: float | None = setting(None, at_least=20)
    doses: tuple[float, ...] | None = setting(None, not_empty=True, above=1)
    many_lesions: float = setting(0.0, at_least=0, at_most=1)
    noise_free: bool = False
    scanner: str = setting("own", choices=SCANNERS)


@dataclass(frozen=True)
class Row:
    """A row of tables. Where the paper has a row of the same name, its numbers stand beside ours.

    Attributes:
        row: its name.
        tables: tables that it is in.
        trainings: the training whose models it is; several, as of other seeds, give their mean.
        center: of specialists the center whose model serves all centers, "": each its own.
        filter: a classical filter in place of trainings.
    """

    row: str
    tables: tuple[int, ...] = setting(not_empty=True)
    trainings: tuple[str, ...] = ()
    center: str = ""
    filter: str = setting("", choices=("", *FILTERS))

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of its methods in the evaluation."""
        if self.filter:
            return (self.filter,)
        return tuple(f"{name}-{self.center}" if self.center else name for name in self.trainings)


@dataclass(frozen=True)
class InterferenceFigure:
    """Figure 1b.

    Attributes:
        training: whose models are taken.
        batches: patches of each center.
        blocks: blocks, from 1.
        shares: of the training's steps; 1 is its end.
    """

    training: str
    batches: int = setting(100, at_least=2)
    blocks: tuple[int, ...] = (1, 4)
    shares: tuple[float, ...] = setting((0.1, 0.5, 1.0), above=0, at_most=1)


@dataclass(frozen=True)
class ReproductionConfig:
    """What is reproduced.

    Attributes:
        output: folder of everything that is made.
        trainings: by name, in the order in which they are done: settings of `TrainingConfig`, without
            dataset, output, name, centers and steps. `share` is the share of `patches`; `initial_weights`
            "@NAME" is the model of that training.
        rows: rows of the tables.
        dataset: patients for training, validation and tuning; "": patients in `output`.
        test_dataset: patients of the test, "": test in `output`.
        patients: what is simulated.
        known_centers: those that are trained on.
        unknown_centers: those that are only tested.
        dose_center: the center of Table 7.
        doses: the dose reduction factors of Table 7.
        patches: patches of each training in all, of all centers.
        training: settings of all trainings, such as threads and seed.
        reference: row that the others are tested against.
        figure_1b: interference.
        figure_3b: training whose routing is shown.
        figure_3c: trainings by number of experts.
        figure_3d: trainings by number of blocks.
        evaluate: when: after "each" training, so that the page grows, or after the "last" one.
        threads: threads of PyTorch outside trainings, 0 = its own choice.
        remarks: paragraphs for the page.
    """

    output: str
    trainings: Mapping[str, Any] = setting(what="an object of training settings by name")
    rows: tuple[Row, ...] = setting(what="a list of objects")
    dataset: str = ""
    test_dataset: str = ""
    patients: tuple[Cohort, ...] = setting((), what="a list of objects")
    known_centers: tuple[str, ...] = setting(("C1", "C2", "C3", "C4"), not_empty=True, distinct=True)
    unknown_centers: tuple[str, ...] = setting(("C5", "C6"), distinct=True)
    dose_center: str = "C6"
    doses: tuple[float, ...] = setting((3.0, 4.0, 6.0, 12.0), above=1)
    patches: int = setting(9600, at_least=1)
    training: Mapping[str, Any] = field(default_factory=dict)
    reference: str = "DRMC"
    figure_1b: InterferenceFigure | None = None
    figure_3b: str = ""
    figure_3c: Mapping[str, str] = setting(
        default_factory=dict, pattern=_NAME.pattern, what="trainings by number"
    )
    figure_3d: Mapping[str, str] = setting(
        default_factory=dict, pattern=_NAME.pattern, what="trainings by number"
    )
    evaluate: str = setting("each", choices=("each", "last"))
    threads: int = setting(0, at_least=0)
    remarks: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, **changes: Any) -> ReproductionConfig:
        """Reads a JSON file; relative folders are relative to the file's folder.

        Args:
            path: the file.
            **changes: values in the place of the file's; relative folders stay as they are.

        Raises:
            InputError: the file cannot be read, or a key or value is wrong; one line says which.
        """
        values, folder = read_json_object(path), Path(path).resolve().parent
        for key in ("output", "dataset", "test_dataset"):
            if isinstance(values.get(key), str) and values[key]:
                values[key] = str(folder / values[key])
        values |= changes
        with located(str(path)):
            found = from_json(cls, values, skip_null=True)
            for key, form in (("rows", Row), ("patients", Cohort)):
                if isinstance(found.get(key), tuple):
                    found[key] = tuple(_part(form, key, one) for one in found[key])
            if isinstance(found.get("figure_1b"), dict):
                found["figure_1b"] = _part(InterferenceFigure, "figure_1b", found["figure_1b"])
            config = cls(**found)
            output = Path(config.output)
            return replace(
                config,
                dataset=config.dataset or str(output / "patients"),
                test_dataset=config.test_dataset or str(output / "test"),
            )

    def __post_init__(self) -> None:
        check(self)
        for name, values in self.trainings.items():
            if not _NAME.fullmatch(name) or name in (*FILTERS, *RESERVED):
                raise InputError(f"training {name!r}: choose another name, of letters, digits and dashes")
            if not isinstance(values, dict):
                raise InputError(f"training {name}: must be an object of settings")
        for row in self.rows:
            if wrong := [number for number in row.tables if number not in TABLES]:
                raise InputError(f"row {row.row!r}: there is no table {wrong[0]}, only {TABLES}")
            if bool(row.filter) == bool(row.trainings):
                raise InputError(f"row {row.row!r}: give either 'trainings' or 'filter'")
        named = [*(name for row in self.rows for name in row.trainings), *self.figures()]
        if unknown := [name for name in named if name not in self.trainings]:
            raise InputError(f"training '{unknown[0]}' is named by a row or figure, but not in 'trainings'")
        for number in (*self.figure_3c, *self.figure_3d):
            if not number.isdecimal():
                raise InputError(f"figures 3c and 3d: {number!r} is no number of experts or blocks")

    def figures(self) -> list[str]:
        """The trainings that figures need."""
        first = [self.figure_1b.training] if self.figure_1b else []
        return [
            *first,
            *([self.figure_3b] if self.figure_3b else []),
            *self.figure_3c.values(),
            *self.figure_3d.values(),
        ]


def _part(form: type, key: str, entry: Any) -> Any:
    with located(key):
        if not isinstance(entry, dict):
            raise InputError(f"must be an object, not {entry!r}")
        if form is Row and isinstance(entry.get("trainings"), str):
            entry = {**entry, "trainings": [entry["trainings"]]}
        part = form(**from_json(form, entry, skip_null=True))
        check(part)
        return part
