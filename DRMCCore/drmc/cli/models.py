"""The command `drmc models`: what is installed, where it is from and what it was trained on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from drmc.cli.arguments import add_json
from drmc.cli.printing import printed
from drmc.errors import InputError
from drmc.models.card import ORGANS, ModelEntry, earlier_trainings
from drmc.models.evaluation import SUMMARY_KEY, evaluation_path, read_evaluation
from drmc.runtime.progress import Reporter, duration
from drmc.texts import shown

EXAMPLES = "  drmc models\n  drmc models --add mine.pt\n  drmc models --evaluation mine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    task = parser.add_mutually_exclusive_group()
    task.add_argument(
        "--add",
        metavar="FILE",
        help="check a weight file (.pt) and copy it with its card into the user's folder",
    )
    task.add_argument(
        "--evaluation",
        nargs="?",
        const="",
        metavar="MODEL",
        help="what was measured of a model (a name or a file; without one the default model)",
    )
    add_json(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Lists the models, adds one, or prints the evaluation of one; returns the exit code."""
    from drmc.models.registry import add_model, find_model, list_models, model_folders

    added = None if options.add is None else add_model(options.add)
    evaluated = None if options.evaluation is None else find_model(options.evaluation or None)
    evaluation = None if evaluated is None else read_evaluation(evaluated)
    entries = list_models()
    listed = {
        "folders": [str(folder) for folder in model_folders()],
        "models": [_model(e) for e in entries],
        "added": None if added is None else _model(added),
        "evaluated": None if evaluated is None else {**_model(evaluated), "evaluation": evaluation},
    }
    if printed(options, reporter, listed):
        return 0
    if added is not None:
        print(f"{added.path}: added")
        return 0
    if evaluated is not None and evaluation is not None:
        _print_evaluation(evaluated, evaluation)
        return 0
    if not entries:
        folders = ", ".join(str(folder) for folder in model_folders())
        print(f"no model installed; weight files (NAME.pt with NAME.json) are looked for in {folders}")
    for entry in entries:
        _print_model(entry)
    if entries:
        print("everything that a card says: drmc models --json")
    return 0


def _print_model(entry: ModelEntry) -> None:
    """Prints the facts that somebody needs to choose a model, a line each."""
    card = entry.card
    title = f": {card['title']}" if card.get("title") else ""
    print(shown(f"{entry.name}{title}{'  (default)' if card.get('default') else ''}"))
    measured = card.get(SUMMARY_KEY)
    facts = {
        "problem": card.get("problem"),
        "task": card.get("task"),
        "kind": card.get("kind"),
        "parameters": _counted(card.get("parameters")),
        "training": _trained(card.get("training")),
        "measured": measured and f"{_measured(measured)} (drmc models --evaluation {entry.name})",
        "license": card.get("license"),
        "intended use": card.get("intended_use"),
        "file": entry.path,
        "sha256": entry.sha256,
    }
    for name, value in facts.items():
        if value:
            print(f"  {name}: {shown(_plain(value))}")


def _counted(number: Any) -> Any:
    return f"{number:,}" if isinstance(number, int) else number


def _trained(training: Any) -> str:
    """The training in a card in one line: patients, steps, and the models that it began from."""
    if not isinstance(training, Mapping):
        return _plain(training or "")
    parts = []
    patients = training.get("patients")
    if isinstance(patients, Mapping):
        kind = {True: "simulated ", False: "real "}.get(training.get("simulated"), "")  # type: ignore[arg-type]
        parts.append(f"{kind}patients ({_plain(dict(patients))})")
    parts += [f"{key} {_plain(training[key])}" for key in ("data", "strategy", "steps") if key in training]
    seconds = training.get("seconds")
    if isinstance(seconds, int | float):
        parts.append(duration(seconds))
    parts += [
        f"begun from {name} ({_trained({**facts, 'initial_weights': None}) or 'its training is not stated'})"
        for name, facts in earlier_trainings(training)
    ]
    return ", ".join(parts)


def _print_evaluation(entry: ModelEntry, result: Mapping[str, Any]) -> None:
    """Prints the tables of `drmc evaluate`; InputError where the file lacks what they show."""
    from drmc.evaluation.organs.tables import markdown as markdown_of_organs
    from drmc.evaluation.tables import markdown

    try:
        tables: Any = markdown_of_organs if result.get("task") == ORGANS else markdown
        text = (
            f"model {entry.name}, measured by drmc {result['version']} on {result['data']} data "
            f"({result['precision']} on {result['device']})\n\n{tables(result)}"
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{evaluation_path(entry.path)}: is no evaluation that this version of drmc can print "
            f"({type(error).__name__}: {error}): run drmc evaluate CONFIG --card"
        ) from None
    print("\n".join(map(shown, text.splitlines())))


def _measured(summary: Any) -> str:
    """The summary of an evaluation in a card; what is not of its form is shown as it is."""
    try:
        aims = f"{summary['aims_reached']} of {summary['aims_assessed']} aims reached"
        if summary.get("task") == ORGANS:
            dice = [f"{name} Dice {found['dice']:.3f}" for name, found in summary["groups"].items()]
            return "; ".join([*dice, f"{summary['data']} data", aims])
        groups = [
            f"{group} centers ({found['patients']} patients) {found['psnr_gain']:+.2f} dB PSNR, "
            f"{100 * found['psnr_share']:.0f} % of the attainable gain"
            for group, found in summary["groups"].items()
        ]
        if spots := summary.get("spots"):
            from drmc.measures.rows import LEAST_KEPT
            from drmc.pages.text import share

            groups.append(
                f"{share(spots['mean_kept'], LEAST_KEPT)} kept of virtual spots of "
                f"{spots['diameter_mm']:g} mm and +{spots['peak_suv']:g} SUV"
            )
        return "; ".join([*groups, f"{summary['data']} data", aims])
    except (KeyError, TypeError, ValueError, AttributeError):
        return _plain(summary)


def _model(entry: ModelEntry) -> dict[str, Any]:
    card = entry.card or {}
    keys = (
        "title",
        "parameters",
        "tile",
        "kind",
        "config",
        "training",
        "evaluation",  # of the model that --evaluation names; null in the list
        SUMMARY_KEY,
        "license",
        "intended_use",
        "command",
        "problem",
    )
    found = {key: card.get(key) for key in keys}
    return {
        "name": entry.name,
        "task": entry.task,
        "path": str(entry.path),
        "sha256": entry.sha256,
        "default": bool(card.get("default")),
        **found,
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return str(value)
