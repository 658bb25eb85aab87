"""The panel speaks of its widgets, never of command-line options."""

from __future__ import annotations

import ast

import pytest
from support import REPOSITORY

ENGINE = REPOSITORY / "DRMCCore" / "drmc"
# What the panel's child process never runs: other commands, batches, and the parser of the command line
# itself.
NOT_OF_A_RUN = (
    "denoising/batch.py",
    "denoising/header_table.py",
    "cli",
    "runtime/arguments.py",
    "runtime/progress.py",
    "runtime/workers.py",
    "datasets",
    "pages",
    "suv/manual.py",
    "training",
    "simulation",
    "evaluation",
    "benchmark",
    "federation",
    "reproduction",
)


def messages() -> list[str]:
    """Every text of the engine that names an option and that a panel can show; X: what is filled in."""
    found = []
    for path in sorted(ENGINE.rglob("*.py")):
        if path.relative_to(ENGINE).as_posix().startswith(NOT_OF_A_RUN):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        skipped |= {
            id(argument)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and (
                getattr(node.func, "attr", "") == "add_argument"
                or getattr(node.func, "id", "") == "companions"
            )
            for argument in node.args
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                text = node.value
            else:
                continue
            isForeign = "--match" in text or "gdcmconv" in text  # of batches, or of another program
            if " --" in f" {text}".replace("(", " ") and "\n" not in text and not isForeign:
                found.append(text)
    return found


def test_the_engine_has_messages_with_options():
    assert len(messages()) > 8 and any("--accept-suv RULE" in text for text in messages())


@pytest.mark.parametrize("text", messages())
def test_no_option_is_left_in_the_words_of_the_panel(slicer, text):
    from DRMCCoreLib.words.wording import inPanelWords

    # What `mend` stands for in the refusal of an image without units.
    whole = text.replace(
        "X, or say --units", 'write a side-car X.json with "Units": "SUV" or "Bq/mL", or say --units'
    )
    assert "--" not in inPanelWords(whole) and "side-car" not in inPanelWords(whole)


def test_an_image_without_units_is_mended_in_the_panel(slicer, tmp_path):
    import numpy as np
    import SimpleITK as sitk
    from drmc.errors import InputError
    from drmc.pet.reading import read_volume
    from DRMCCoreLib.words.wording import inPanelWords

    path = tmp_path / "pet.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 4, 4), 9e5, np.float32)), str(path))
    with pytest.raises(InputError) as refusal:
        read_volume(path)
    assert "--units suv" in str(refusal.value)
    said = inPanelWords(str(refusal.value))
    assert said.endswith("say under SUV details what the voxels are") and "99.9th percentile 9e+05" in said


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            "PatientWeight=abc",
            "Weight [kg]: 'abc' cannot be used: write a positive number of at most 16 characters, in kg",
        ),
        ("PatientWeight=70\nPatientSex=Q", "Sex: 'Q' cannot be used: write one of M, F, O"),
        (
            "RadionuclideTotalDose=-3e8",
            (
                "Injected dose [MBq]: '-300' cannot be used: "
                "write a positive number of at most 16 characters, in MBq"
            ),
        ),
        ("PatientName=X", "PatientName: cannot be given by hand, only PatientWeight"),
        ("PatientWeight=70", ""),
    ],
)  # fmt: skip
def test_a_mistake_names_the_field_in_its_own_unit(slicer, lines, sentence):
    from DRMCCoreLib.words.headerfields import mistake

    assert mistake(lines).startswith(sentence) and bool(mistake(lines)) == bool(sentence)
