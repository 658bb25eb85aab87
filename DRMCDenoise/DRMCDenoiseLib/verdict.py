"""What a run has shown, in one sentence: numbers of its summary that the nodes of its results keep."""

from __future__ import annotations

import json
from typing import Any

from drmc.measures.routing_profiles import is_of_all_scanners
from DRMCCoreLib.nodes.names import BODY_CHANGE_ATTRIBUTE
from slicer.i18n import tr as _

QUANTITY = "suv_peak"  # of lesions: noise moves it less than SUVmax


def verdict(parameters) -> str:
    """The sentence on the output volume of the parameters, with what is known of it; empty without a run."""
    from drmc.pages.text import percent

    from DRMCDenoiseLib.lesiontable import readLesions
    from DRMCDenoiseLib.routingnodes import readNearest

    output = parameters.outputVolume
    text = output.GetAttribute(BODY_CHANGE_ATTRIBUTE) if output is not None else None
    if not text:
        return ""
    body = json.loads(text)
    liver = body.get("liver") or {}
    parts = [_noise(body, liver)]
    changes = [
        stages.get("change_percent", {}).get(QUANTITY)
        for segment, stages in readLesions(parameters.lesionTable).items()
        if segment != liver.get("segment")
    ]
    changes = sorted((change for change in changes if change is not None), key=abs)
    if changes:
        first, last = (percent(change, digits=0) for change in (changes[0], changes[-1]))
        words = (
            _("SUVpeak of the lesion changed by {last}")
            if len(changes) == 1
            else _("SUVpeak of {count} lesions changed by {last}")
            if first == last
            else _("SUVpeak of {count} lesions changed by {first} to {last}")
        )
        parts.append(words.format(count=len(changes), first=first.removesuffix(" %"), last=last))
    parts.append(_center(readNearest(parameters.routingTable)))
    sentence = ", ".join(part for part in parts if part)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _noise(body: dict[str, Any], liver: dict[str, Any]) -> str:
    """The change of the noise in the liver if that is known, else in the body."""
    inLiver, inBody = (found.get("noise_reduction_percent") for found in (liver, body))
    reduction, place = (inBody, _("body")) if inLiver is None else (inLiver, _("liver"))
    if reduction is None:
        return ""
    words = _("noise in the {place} down {percent:.0f} %")
    if reduction < 0:
        words = _("noise in the {place} up {percent:.0f} %")
    return words.format(place=place, percent=abs(reduction))


def _center(nearest: dict[str, Any]) -> str:
    if not nearest.get("center"):
        return ""
    if nearest.get("unlike"):
        return _("scan unlike all training centers")
    if is_of_all_scanners(nearest):
        return _("scan like those of the training")
    return _("scan like training center {name}").format(name=nearest["center"])
