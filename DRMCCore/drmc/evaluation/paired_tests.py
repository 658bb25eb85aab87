"""The reference method against every other, patient by patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drmc.evaluation.records import Comparison
from drmc.evaluation.results import Results, groups
from drmc.evaluation.statistics import EXACT_UP_TO, LEVEL, holm, signed_rank, smallest_p

COMPARED = ("psnr", "nrmse", "ssim", "B_mean", "B_max", "B_peak")
PRIMARY = "psnr"
RULE = (
    "Paired Wilcoxon signed-rank tests, two-sided, of the patients' differences between {reference} and each "
    "other method; a patient at several doses counts once, with the mean. Exact up to {exact} patients, else "
    "normal approximation. Holm's correction over all comparisons of one measure: those per center are one "
    "family, those over groups of centers another. * p < {level:g} after the correction."
)
SMALL = (
    "With n patients the smallest two-sided p is 2^(1-n): with n = 5 it is 0.0625, so that no comparison of "
    "a single center with five patients or fewer can reach {level:g}; the pooled ones can."
)


def comparisons(results: Results, reference: str, known: Sequence[str] | None) -> list[Comparison]:
    """One record per measure of `COMPARED`, group (a center, "known", "unknown" or "all") and other method.

    `n` pairs, of which `different`; median and mean of reference minus other; `p`, `p_holm`, `significant`,
    and `smallest_p`, what the test could give at best with so many pairs. Groups without two pairs are left
    out.
    """
    centers = [center for center, _ in results.doses()]
    families = {
        "center": {center: [center] for center in dict.fromkeys(centers)},
        "group": groups(centers, known),
    }
    others = [m for m in results.methods() if m not in (reference, "full")]
    records: list[Comparison] = []
    for metric in COMPARED:
        for family, members in families.items():
            found = [
                one
                for group, of in members.items()
                for other in others
                if (one := _differences(results, metric, group, of, reference, other)) is not None
            ]
            tests = [signed_rank(differences) for *_, differences in found]
            corrected = holm([test.p for test in tests])
            for (group, other, differences), test, p in zip(found, tests, corrected, strict=True):
                records.append(
                    {
                        "family": family,
                        "metric": metric,
                        "group": group,
                        "method": other,
                        "n": len(differences),
                        "different": test.n,
                        "median_difference": float(np.median(differences)),
                        "mean_difference": float(np.mean(differences)),
                        "p": test.p,
                        "exact": test.exact,
                        "smallest_p": smallest_p(len(differences)),
                        "p_holm": p,
                        "significant": p < LEVEL,
                    }
                )
    return records


def _differences(
    results: Results, metric: str, group: str, centers: Sequence[str], reference: str, other: str
) -> tuple[str, str, list[float]] | None:
    """Group, other method, and the patients' differences; None where there are fewer than two."""
    mine, theirs = (results.patient_means(method, metric, centers) for method in (reference, other))
    differences = [mine[patient] - theirs[patient] for patient in mine if patient in theirs]
    return (group, other, differences) if len(differences) > 1 else None


def rules(reference: str) -> list[str]:
    """What a reader must know of the tests, as sentences."""
    return [RULE.format(reference=reference, exact=EXACT_UP_TO, level=LEVEL), SMALL.format(level=LEVEL)]


def star(records: Sequence[Comparison], group: str, method: str, metric: str = PRIMARY) -> str:
    """`*` where the reference differs from a method in a group, else nothing."""
    return "*" * any(
        record["significant"]
        for record in records
        if (record["group"], record["method"], record["metric"]) == (group, method, metric)
    )
