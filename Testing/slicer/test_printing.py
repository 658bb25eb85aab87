"""The report in the part of HTML that Qt prints; that Qt prints it is seen in the self test."""

from __future__ import annotations

import re

import numpy as np


def report() -> str:
    """A report of the engine with pictures, facts and routing."""
    from drmc.imaging.geometry import Geometry
    from drmc.report.page import report_html

    original = np.random.default_rng(3).random((12, 14, 16)).astype(np.float32) * 5
    routing = [
        {
            "block": 1,
            "bank": bank,
            "expert": expert,
            "mean_gate": 0.3,
            "sd_gate": 0.1,
            "closed_fraction": 0.0,
            "top1_fraction": 0.5,
        }
        for bank in ("attention", "ffn")
        for expert in (1, 2)
    ]
    return report_html(
        title="Scan & <more>",
        original_suv=original,
        denoised_suv=original * np.float32(0.9),
        geometry=Geometry(original.shape),
        suv={"factor": 1.0, "rule": "sidecar", "type": "bw"},
        lesions=None,
        routing=routing,
        summary={},
        header={},
    )


def test_nothing_is_left_that_qt_does_not_print(slicer):
    from DRMCCoreLib.panel.printing import printable

    page, drawn = report(), []
    found = printable(page, lambda svg: drawn.append(svg) or b"PNG")
    assert "<svg" in page and "<dl>" in page and 'class="trio"' in page and 'class="bars"' in page
    for part in ("<svg", "<dl", "<dt", "<figure", "<summary", "var(--", "currentColor", 'class="bar'):
        assert part not in found, part
    assert len(drawn) == page.count("<svg") and all("currentColor" not in svg for svg in drawn)
    assert len(re.findall(r"<img [^>]*width=\"\d+\" height=\"\d+\">", found)) == found.count("<img ")
    assert found.count("<img ") == page.count("<img ") + page.count("<svg")


def test_facts_and_pictures_keep_their_words_and_proportions(slicer):
    from DRMCCoreLib.panel.printing import printable

    page = report()
    found = printable(page, lambda svg: b"PNG")
    facts = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", page, re.DOTALL)
    assert facts
    for name, value in facts:
        assert f'<th class="fact">{name}</th><td class="fact">{value}</td>' in found
    assert "Scan &amp; &lt;more&gt;" in found
    aspect = float(re.search(r"aspect-ratio:([\d.]+)", page)[1])
    width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', found).groups())
    assert abs(width / height - aspect) < 0.02 * aspect
