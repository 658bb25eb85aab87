"""How reading refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from drmc.errors import InputError
from drmc.pet.reading import read_volume

from support.engine.synthetic_dicom import SECRETS


def refusal(path: Path, **keywords) -> str:
    """The one line with which a folder is refused; it names nobody."""
    with pytest.raises(InputError) as caught:
        read_volume(path, **keywords)
    line = str(caught.value)
    assert "\n" not in line
    assert not any(secret in line for secret in SECRETS)
    return line
