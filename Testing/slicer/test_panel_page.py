"""The script of docs/panel.md runs as it stands."""

from __future__ import annotations

import re

import pytest
from support import REPOSITORY
from support.slicer.scene import oblique, phantom, segmentationNode, volumeNode

pytestmark = pytest.mark.usefixtures("model", "qtSlicer")


def test_the_script_of_the_page_runs(slicer, tmp_path):
    (script,) = re.findall(
        r"```python\n(.*?)```", (REPOSITORY / "docs" / "panel.md").read_text("utf-8"), re.S
    )
    assert '"/tmp/out"' in script
    volume = volumeNode(slicer, phantom(), oblique(), units="{SUVbw}g/ml", name="PET")
    names = {"volume": volume, "segmentation": segmentationNode(slicer, volume, {"Hot": phantom() > 5})}
    exec(compile(script.replace("/tmp/out", str(tmp_path / "out")), "panel.md", "exec"), names)
    assert {"lesions.csv", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert names["denoised"].GetAttribute("DRMC.Strength") == "0.75"
