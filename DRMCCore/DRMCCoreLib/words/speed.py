"""The time of the last run on a device with a model, kept in Slicer's settings to estimate the next one."""

from __future__ import annotations

from typing import Any, NamedTuple

from drmc.runtime.progress import duration

GROUP = "DRMC/LastRun"


class LastRun(NamedTuple):
    """Seconds that the network took, and the number of tiles."""

    seconds: float
    tiles: int

    @property
    def time(self) -> str:
        """The seconds as text for people."""
        return duration(self.seconds)


def remember(summary: dict[str, Any]) -> None:
    """Stores the speed in a run's summary.json."""
    tiles, seconds = summary["tiles"]["count"], summary["seconds"]["denoise"]
    if tiles:
        import qt  # the module file is imported where there is no Qt, too

        value = f"{seconds:.1f} {tiles}"
        qt.QSettings().setValue(_key(summary["model"]["sha256"], summary["device"]), value)


def lastSeconds(entry, device: dict[str, Any]) -> LastRun | None:
    """The last run with a ModelEntry on a device of `drmc devices --json`; None if there was none."""
    import qt

    name = f"{device['name']} {device['title']}" if device["kind"] == "cuda" else device["name"]
    kept = str(qt.QSettings().value(_key(entry.sha256, name)) or "").split()
    try:
        return LastRun(float(kept[0]), int(kept[1]))
    except (IndexError, ValueError):
        return None


def _key(sha256: str, device: str) -> str:
    return f"{GROUP}/{sha256[:16]}/{device.replace('/', ' ')}"
