"""Figures of an evaluation: gains of every patient, and what became of the lesions. Inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from drmc.evaluation.measures import LARGE_MM
from drmc.evaluation.results import Results
from drmc.pages.colors import NEUTRAL, SERIES_COUNT, series_color
from drmc.pages.plot import Plot, ticks

SHORT = {"mean": "SUVmean", "peak": "SUVpeak"}


def colors(methods: Sequence[str], reference: str) -> dict[str, str]:
    """A color per method; the reference always has the first."""
    others = [method for method in methods if method != reference]
    return {
        reference: series_color(0),
        **{m: series_color(1 + k % (SERIES_COUNT - 1)) for k, m in enumerate(others)},
    }


def gain_svg(
    results: Results,
    center: str,
    factor: float,
    methods: Sequence[str],
    paint: Mapping[str, str],
    attainable: float,
) -> str:
    """Gain in PSNR of every patient of a center at one dose, by method.

    A line marks the mean, a dashed one the attainable gain, in dB.
    """
    found = {m: results.patient_means(m, "psnr_gain", [center], factor) for m in methods}
    values = [value for patients in found.values() for value in patients.values()]
    low, high = min([0.0, *values]), 1.08 * max([0.1, attainable, *values])
    low = low - 0.05 * (high - low) if low < 0 else 0.0
    shown = [method for method in methods if found[method]]
    plot = Plot(f"{center}, 1/{factor:g} of the dose", (0.0, float(len(shown))), (low, high))
    plot.axes({k + 0.5: name for k, name in enumerate(shown)}, ticks(low, high), "", "gain in PSNR [dB]")
    plot.line([(0.0, attainable), (float(len(shown)), attainable)], "currentColor", dash="5 4", width=1)
    for k, method in enumerate(shown):
        patients = found[method]
        mean = math.fsum(patients.values()) / len(patients)
        plot.band([(k + 0.2, 0.0), (k + 0.8, 0.0)], [(k + 0.2, mean), (k + 0.8, mean)], paint[method])
        plot.line([(k + 0.2, mean), (k + 0.8, mean)], paint[method], title=f"{method}: mean {mean:+.2f} dB")
        for index, ((_, patient), value) in enumerate(sorted(patients.items())):
            shift = 0.4 * ((index + 0.5) / len(patients) - 0.5)
            plot.dot(
                k + 0.5 + shift, value, paint[method], f"{patient}, {method}: {value:+.2f} dB", radius=3.5
            )
    return plot.svg(f"Gain in PSNR of every patient of center {center} by method")


def lesion_svg(
    results: Results, quantity: str, methods: Sequence[str], paint: Mapping[str, str], limit: float
) -> str:
    """Signed difference of every lesion from full dose over its diameter, by method; the band is the aim."""
    points = [
        (lesion["diameter_mm"], 100 * lesion["full"][quantity], method, f"{case}, lesion {lesion['lesion']}")
        for (_, case, _, _, method), lesions in results.lesions.items()
        if method in methods
        for lesion in lesions
        if lesion.get("full", {}).get(quantity) is not None
    ]
    if not points:
        return ""
    widest = max(LARGE_MM * 1.3, *(point[0] for point in points)) * 1.05
    ordered = sorted(abs(point[1]) for point in points)
    # A few outliers do not set the scale of all.
    reach = max(20.0, 1.1 * ordered[math.ceil(0.98 * len(ordered)) - 1])
    plot = Plot(f"{SHORT[quantity]} of the lesions", (0.0, widest), (-reach, reach))
    marks = {mark: f"{mark:g}" for mark in ticks(0, widest)}
    plot.axes(marks, ticks(-reach, reach), "diameter [mm]", "difference from full dose [%]")
    plot.band(
        [(LARGE_MM, -100 * limit), (widest, -100 * limit)],
        [(LARGE_MM, 100 * limit), (widest, 100 * limit)],
        NEUTRAL,
    )
    plot.line([(0.0, 0.0), (widest, 0.0)], "currentColor", width=1)
    for diameter, difference, method, name in sorted(points, key=lambda point: -methods.index(point[2])):
        clipped = max(-reach, min(reach, difference))
        title = f"{name}, {diameter:.0f} mm, {method}: {difference:+.1f} %"
        plot.dot(diameter, clipped, paint[method], title, radius=3)
    plot.legend([(method, paint[method]) for method in methods])
    return plot.svg(f"Difference of {SHORT[quantity]} from full dose against the lesions' diameter")
