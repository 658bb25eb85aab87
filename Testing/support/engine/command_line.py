"""What tests of the command line share: options for exact results, and the form of a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from drmc.cli.main import main

from support.engine.denoising_cases import (
    tree,
)

EXACT = ("--device", "cpu", "--precision", "fp32")


def refused(capfd: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    """Asserts a refusal: exit code 2, one line on standard error, nothing else; gives the line."""
    before, folders = tree(folder), sorted(folder.rglob("*"))
    capfd.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert code == 2, err
    assert err.startswith("drmc: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err and out == ""
    assert tree(folder) == before and sorted(folder.rglob("*")) == folders
    return err
