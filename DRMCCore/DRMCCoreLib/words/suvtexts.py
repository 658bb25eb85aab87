"""An SUV decision in words: one line, and its details as rich text."""

from __future__ import annotations

from html import escape
from typing import Any

from slicer.i18n import tr as _


def ruleWords(rule: str) -> str:
    """The source of the reference time, in a few words."""
    return {
        "ST": _("series time"),
        "PRIVATE": _("the vendor's private time"),
        "BACK": _("computed back from the frames"),
        "AT_MIN": _("earliest acquisition time"),
        "GE_AT_FRT": _("acquisition time less frame reference time"),
        "SSF_RATIO": _("the Philips factors"),
        "DCDT": _("decay correction time"),
        "ADMIN": _("time of injection"),
    }.get(rule, rule)


def oneLine(decision: dict[str, Any], *, isByHand: bool = False) -> str:
    """How the voxels become SUV, in one line; `isByHand`: the factor was entered in the panel."""
    units, kind, factor = decision["units"], decision["type"], decision["factor"]
    stored = decision["facts"].get("stored_suv_type") or "SUVbw"
    if units in ("SUV", "GML", "CM2ML") and factor == 1:
        line = _("{kind} {unit}, as it is").format(kind=kind, unit="cm2/ml" if units == "CM2ML" else "g/ml")
    else:
        unit = {"BQML": _("Bq/ml"), "CNTS": _("counts")}.get(units, stored)
        unit, why = (
            (_("voxel value"), _("as you say under SUV details")) if isByHand else (unit, _why(decision))
        )
        line = f"{kind} = {unit} × {_factors(decision)} ({why})"
    count = len(decision["warnings"])
    if count:
        line += "; " + (
            _("1 warning, see the details")
            if count == 1
            else _("{n} warnings, see the details").format(n=count)
        )
    return line


def detailsText(decision: dict[str, Any]) -> str:
    """Rule, reference times, dose, weight, times and notes, as rich text."""
    parts = [_list(_("Warnings"), decision["warnings"]), _facts(decision)]
    candidates = decision["candidates"]
    if candidates:
        parts.append(_table(_("Reference times"), [candidateWords(one) for one in candidates]))
    parts.append(_list(_("Notes"), decision["notices"]))
    return "".join(parts)


def candidateWords(candidate: dict[str, Any]) -> tuple[str, str]:
    """A reference time's rule, and its result."""
    percent = candidate["difference_percent"]
    parts = [(candidate["time"] or _("no time")).partition(".")[0].replace("T", " ")]
    if percent is not None:
        parts.append(f"SUV {percent:+.2f} %")
    if not candidate["plausible"]:
        parts.append(candidate["note"] or _("for the record"))
    return f"{candidate['rule']} ({ruleWords(candidate['rule'])})", ", ".join(parts)


def _factors(decision: dict[str, Any]) -> str:
    each = decision.get("factor_per_slice")
    if each:
        return _("{low:.5g} to {high:.5g} by slice").format(low=min(each), high=max(each))
    return f"{decision['factor']:.5g}"


def _why(decision: dict[str, Any]) -> str:
    rule = decision["rule"]
    if rule == "sidecar":
        return decision["source"]
    if rule == "PHILIPS_SSF":
        return _("Philips SUV scale factor")
    if rule == "NONE":
        return _("not decay-corrected, done here by slice")
    if rule in ("GML", "CM2ML"):
        return _("converted from the stored SUV")
    return _("reference time: {rule}").format(rule=ruleWords(rule))


def _facts(decision: dict[str, Any]) -> str:
    facts = decision["facts"]

    def measure(key: str, unit: str, scale: float = 1.0) -> str | None:
        value = facts.get(key)
        return None if value is None else f"{value * scale:.6g} {unit}"

    rows = [
        (_("SUV"), _join(decision["type"], facts.get("suv_formula"))),
        (_("Factor"), _factors(decision)),
        (_("Rule"), _join(decision["rule"], decision["source"])),
        (_("Reference time"), (decision["reference_time"] or "").replace("T", " ")),
        (_("Injection"), (facts.get("administration_time") or "").replace("T", " ")),
        (_("Uptake time"), measure("uptake_minutes", "min")),
        (_("Weight"), measure("weight_kg", "kg")),
        (_("Height"), measure("height_m", "m")),
        (_("Sex"), facts.get("sex")),
        (_("Dose"), measure("dose_bq", "MBq", 1e-6)),
        (_("Half-life"), measure("half_life_s", "s")),
        (_("Tracer"), _join(facts.get("tracer"), facts.get("nuclide"))),
        (_("Decay correction"), facts.get("decay_correction")),
    ]
    return _table("", [(label, str(value)) for label, value in rows if value])


def _join(*texts: Any) -> str:
    return ", ".join(str(text) for text in texts if text)


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    head = f"<p><b>{escape(title)}</b></p>" if title else ""
    cells = "".join(
        f'<tr><td style="padding-right: 12px">{escape(label)}</td><td>{escape(text)}</td></tr>'
        for label, text in rows
    )
    return f"{head}<table>{cells}</table>"


def _list(title: str, texts: list[str]) -> str:
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<p><b>{escape(title)}</b></p><ul style="margin-left: -20px">{items}</ul>'
