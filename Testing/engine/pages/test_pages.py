"""What all pages share: the shell, the palette, and numbers as text."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from drmc.pages.colors import SERIES_COUNT, series_color
from drmc.pages.page import page
from drmc.pages.style import CSS
from drmc.pages.text import number, percent


def test_the_shell_escapes_plain_text_and_leaves_out_what_is_not_given():
    whole = page("A & <B>", "<p>body</p>", heading="C > D", banner="1 < 2", footer="<end>")
    assert whole.startswith("<!DOCTYPE html>\n") and whole.endswith("</html>\n")
    assert "<title>A &amp; &lt;B&gt;</title>" in whole and "<h1>C &gt; D</h1>" in whole
    assert '<div class="research">1 &lt; 2</div>' in whole and "<footer>&lt;end&gt;</footer>" in whole
    assert "<p>body</p>" in whole
    bare = page("Alone", "")
    assert "<h1>Alone</h1>" in bare and '<div class="research">' not in bare and "<footer>" not in bare


def luminance(color: str) -> float:
    """WCAG 2.1's relative luminance of #rrggbb."""
    parts = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_color_of_a_figure_stands_out_on_a_light_and_on_a_dark_page():
    defined = {name: re.findall(rf"--{name}:\s*(#\w+)", CSS) for name in ("card", "accent")}
    for index in range(SERIES_COUNT):
        name = re.fullmatch(r"var\(--(series-\d)\)", series_color(index))[1]
        defined[name] = re.findall(rf"--{name}:\s*(#\w+)", CSS)
    cards = defined.pop("card")
    for colors in defined.values():
        for color, card in zip(colors, cards, strict=True):  # light, dark
            low, high = sorted((luminance(color), luminance(card)))
            assert (high + 0.05) / (low + 0.05) > 4.5
    assert len({tuple(colors) for colors in defined.values()}) == SERIES_COUNT + 1


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (-1.25, {}, "−1.25"),
        (0.0004, {}, "0.0004"),
        (0.0004, {"fixed": True}, "0.00"),
        (-0.0004, {"fixed": True, "sign": True}, "0.00"),
        (-0.0, {}, "0.00"),
        (np.float32(2.5), {"sign": True}, "+2.50"),
        (math.inf, {}, "∞"),
        (math.nan, {}, "–"),
        (None, {"absent": ""}, ""),
    ],
)
def test_a_number_has_a_real_minus_sign_and_never_reads_minus_zero(value, options, text):
    assert number(value, 2, **options) == text


def test_a_percentage_has_its_sign_unless_it_reads_zero():
    assert (percent(12.34), percent(-0.04), percent(12.34, digits=0, sign=False)) == (
        "+12.3 %",
        "0.0 %",
        "12 %",
    )
    assert (percent(None), percent(math.inf), percent(None, absent="")) == ("–", "–", "")
