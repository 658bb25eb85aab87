"""An evaluation without a configuration file: of a dataset, by methods that every evaluation should have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drmc.errors import InputError
from drmc.evaluation.config import FILTERS, RESERVED, EvaluationConfig, Method
from drmc.models.card import ModelEntry, card_path
from drmc.models.registry import find_model, list_models


def dataset_evaluation(
    dataset: Path, models: Sequence[str] = (), output: Path | None = None
) -> EvaluationConfig:
    """The evaluation of a dataset's test patients.

    Beside the low dose it has the Gaussian filter, tuned on the training patients, the models that are named,
    of which the first is the reference, and the default model.

    Args:
        dataset: folder of the dataset.
        models: names of installed models, weight files, or folders of finished trainings.
        output: folder of the results; None: DATASET-evaluation beside the dataset.

    Raises:
        InputError: there is no such model.
    """
    dataset = dataset.resolve()
    output = output_of(dataset, output)
    entries = {entry.sha256: entry for model in models for entry in models_of(model)}
    if not entries or list_models():
        default = find_model()
        entries.setdefault(default.sha256, default)
    rows: dict[str, Method] = {}
    for entry in entries.values():
        name = entry.name
        if name in rows or name in (*FILTERS, *RESERVED):
            name = f"{entry.path.resolve().parent.name}-{name}"
        name = _unused(name, rows)
        rows[name] = Method(name, str(entry.path))
    return EvaluationConfig(
        str(dataset),
        str(output),
        methods=(Method("gaussian"), *rows.values()),
        reference=next(iter(rows)),
        tuning_dataset=str(dataset),
    )


def output_of(dataset: Path, output: Path | None) -> Path:
    """The folder of the results: the one that is given, or DATASET-evaluation beside the dataset."""
    dataset = dataset.resolve()
    return dataset.with_name(f"{dataset.name}-evaluation") if output is None else output.resolve()


def models_of(model: str) -> list[ModelEntry]:
    """The model of a name or file; of a folder, those that a training has written there with their cards.

    Raises:
        InputError: there is no such model.
    """
    folder = Path(model)
    if not folder.is_dir():
        return [find_model(model)]
    found = [path for path in sorted(folder.glob("[!.]*.pt")) if card_path(path).is_file()]
    if not found:
        raise InputError(f"{folder}: no model (NAME.pt with NAME.json) is there: has its training ended?")
    return [find_model(path) for path in found]


def _unused(name: str, rows: dict[str, Method]) -> str:
    """The name, with a number where another row has it already."""
    number = 1
    wanted = name
    while wanted in rows:
        number += 1
        wanted = f"{name}-{number}"
    return wanted
