"""Rich texts of the panel: the checks, the validation table, the figures of the last steps."""

from __future__ import annotations

from html import escape

from drmc.pages.text import is_number
from drmc.training.history import History
from slicer.i18n import tr as _

_ICONS = {"ok": ("✔", "#2e9b4e"), "warning": ("▲", "#cf8a00"), "refused": ("✖", "#d0392f")}


def checksText(checks: list[tuple[str, str]]) -> str:
    """A line with an icon for each check."""
    rows = []
    for level, text in checks:
        icon, color = _ICONS.get(level, ("·", "#808080"))
        shown = f"<b>{escape(text)}</b>" if level == "refused" else escape(text)
        rows.append(
            f'<tr><td style="color:{color}; padding-right:6px">{icon}</td>'
            f'<td style="padding-bottom:3px">{shown}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>" if rows else ""


def validationText(history: History) -> str:
    """The newest validation: a row for each center, a column for each figure that was logged."""
    columns = [
        (title, key, below, digits, factor)
        for title, key, below, digits, factor in (
            (_("PSNR [dB]"), "psnr", None, 2, 1.0),
            (_("gain"), "psnr", "psnr_low", 2, 1.0),
            (_("low dose"), "psnr_low", None, 2, 1.0),
            (_("Gaussian"), "psnr_gaussian", None, 2, 1.0),
            (_("NRMSE [%]"), "nrmse", None, 2, 100.0),
            (_("bias mean [%]"), "b_mean", None, 1, 100.0),
            (_("bias max [%]"), "b_max", None, 1, 100.0),
        )
        if history.last("validation", key)
    ]
    if not columns:
        return _("No validation yet.")
    newest = history.validation[-1]
    heads = "".join(f'<th align="right" style="padding-left:10px">{title}</th>' for title, *_rest in columns)
    rows = []
    for center in history.last("validation", "psnr") or ():
        cells = []
        for _title, key, below, digits, factor in columns:
            value = _of(newest, key, center)
            lower = _of(newest, below, center) if below else 0.0
            known = is_number(value) and is_number(lower)
            sign = "+" if below else ""
            text = format(factor * (value - lower), f"{sign}.{digits}f") if known else "–"
            cells.append(f'<td align="right" style="padding-left:10px">{text}</td>')
        rows.append(f"<tr><td>{escape(center)}</td>{''.join(cells)}</tr>")
    title = _("Validation at step {step}").format(step=newest["step"])
    return f'<p>{title}</p><table><tr><th align="left">{_("center")}</th>{heads}</tr>{"".join(rows)}</table>'


def figuresText(history: History) -> str:
    """Dead gates, gradient norm, speed and use of the experts, as far as they are logged."""
    figures = []
    for text, key, kind, form, factor in (
        (_("dead gates {value}"), "closed_gates", "progress", "{:.0f} %", 100.0),
        (_("gradient norm {value}"), "gradient_norm", "progress", "{:.3g}", 1.0),
        (_("learning rate {value}"), "rate", "progress", "{:.2g}", 1.0),
        (_("{value} patches/s"), "patches_per_second", "progress", "{:.2f}", 1.0),
    ):
        value = history.last(kind, key)
        if is_number(value):
            figures.append(text.format(value=form.format(factor * value)))
    entropy = history.last("validation", "entropy") or history.last("progress", "entropy")
    if isinstance(entropy, dict) and all(map(is_number, entropy.values())):
        each = ", ".join(f"{center} {value:.2f}" for center, value in entropy.items())
        figures.append(_("entropy of the experts {each}").format(each=each))
    return " · ".join(figures)


def durationText(seconds: float) -> str:
    """A remaining time as text for people."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return _("less than a minute")
    if minutes < 120:
        return _("{n} min").format(n=minutes)
    if minutes < 48 * 60:
        return _("{h} h {m:02d} min").format(h=minutes // 60, m=minutes % 60)
    return _("{n} days").format(n=round(minutes / 1440))


def _of(record, key, center):
    values = record.get(key)
    return values.get(center) if isinstance(values, dict) else None
