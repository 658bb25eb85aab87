"""The images that are compared: low dose, filters and networks, each with all that its image depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from drmc.errors import InputError
from drmc.evaluation.config import NONLOCAL_MEANS, STABILIZED, EvaluationConfig, Method
from drmc.evaluation.filters import (
    gaussian_filter,
    nonlocal_means,
    nonlocal_means_parameters,
    require_nonlocal_means,
)
from drmc.imaging.geometry import Geometry
from drmc.inference.denoiser import Denoiser
from drmc.models.card import ModelEntry
from drmc.models.registry import find_model
from drmc.models.weights import load_network

Share = Callable[[float], None]


@dataclass(frozen=True)
class NetworkFile:
    """A weight file, its checksum, and how it is computed: device, precision, local means held or not."""

    path: str
    sha256: str
    device: str
    precision: str
    keep_means: bool = True


@dataclass(frozen=True)
class Estimator:
    """One way to get an image from a low dose: `kind` low, full, gaussian, nlm or network.

    `method` is the row that it belongs to, `center` the one whose specialist it is. A filter has
    `parameters`, a network what is in `network`.
    """

    method: str
    kind: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    network: NetworkFile | None = None
    center: str | None = None

    @property
    def sha256(self) -> str | None:
        """Checksum of the network's weight file."""
        return self.network.sha256 if self.network else None

    def depends_on(self) -> list[Any]:
        """What a stored result of it depends on beside the images; neither names nor places."""
        network = self.network
        how = [network.precision, network.keep_means] if network else [None]
        return [self.kind, dict(self.parameters), self.sha256, *how]

    def estimate(
        self, low: np.ndarray, full: np.ndarray, geometry: Geometry, share: Share | None = None
    ) -> tuple[np.ndarray, str | None]:
        """Applies it.

        Args:
            low: low dose, SUV (z, y, x).
            full: full dose, on the same grid.
            geometry: that grid.
            share: called with the share (0 to 1) that is done.

        Returns:
            The image, SUV (z, y, x), and the device that a network ran on.
        """
        if self.kind in ("low", "full"):
            return (low if self.kind == "low" else full), None
        if self.kind == "gaussian":
            return gaussian_filter(low, geometry.spacing_zyx, self.parameters["fwhm_mm"]), None
        if self.kind in NONLOCAL_MEANS:
            patch, reach, strength = nonlocal_means_parameters(self.parameters)
            form: dict[str, Any] = {"patch": patch, "reach": reach, "strength": strength}
            stabilize = self.kind == STABILIZED
            spacing = geometry.spacing_zyx
            return nonlocal_means(low, spacing, **form, stabilize=stabilize, progress=share), None
        if self.network is None:
            raise ValueError(f"an estimator of kind '{self.kind}' has no network")
        denoiser = _denoiser(self.network)
        tiles = (lambda done, total, left: share(done / total)) if share else None
        result = denoiser.denoise(low, geometry, progress=tiles)
        return low + result.residual, result.device

    def label(self) -> str:
        """The method with its parameters, for people: `gaussian 6 mm`."""
        if self.kind == "gaussian":
            return f"{self.method} {self.parameters['fwhm_mm']:g} mm"
        if self.kind in NONLOCAL_MEANS:
            name, values = self.method.replace("_", " "), self.parameters
            return f"{name} {values['strength']:g} σ, patch {values['patch']}"
        return self.method


LOW = Estimator("low", "low")
FULL = Estimator("full", "full")


@lru_cache(maxsize=8)
def _denoiser(file: NetworkFile) -> Denoiser:
    path = Path(file.path)
    network, tile = load_network(ModelEntry(path.stem, path, {}, file.sha256))
    return Denoiser(network, tile, device=file.device, precision=file.precision, keep_means=file.keep_means)


class Methods:
    """The methods of a configuration with their models found, verified and once read.

    `entries`: model by method, or by method and center for specialists. `device_name` and `precision`: what
    networks are computed on and with. Raises InputError where a model, a package or a device is missing.
    """

    def __init__(self, config: EvaluationConfig):
        self.rows = config.rows()
        self.reference = config.reference_name()
        self.entries: dict[str, dict[str | None, ModelEntry]] = {
            method.name: {center: find_model(model or None) for center, model in _models(method)}
            for method in self.rows
            if not method.is_filter
        }
        if self.reference not in self.entries:
            raise InputError(
                f"reference '{self.reference}' is a filter: the others are tested against a network"
            )
        if any(method.name in NONLOCAL_MEANS for method in self.rows):
            require_nonlocal_means()
        if config.real_scans and not any(None in entries for entries in self.entries.values()):
            raise InputError(
                "real_scans: no network serves every center, and whose specialist to take nothing says: "
                "give a method with a 'model'"
            )
        self.device, self.keep_means = config.device, config.keep_means
        found = {entry.sha256: entry for entries in self.entries.values() for entry in entries.values()}
        for entry in found.values():
            network, tile = load_network(entry)
            denoiser = Denoiser(network, tile, device=config.device, precision=config.precision)
            self.device_name, self.precision = denoiser.device_name, denoiser.precision

    @property
    def reference_model(self) -> ModelEntry:
        """The model of the reference; of several specialists the first."""
        return next(iter(self.entries[self.reference].values()))

    def networks(self, method: Method, center: str | None) -> list[Estimator]:
        """The networks of a row at a center; several where the mean of all specialists is given, or none."""
        entries = self.entries[method.name]
        if method.models:
            if center in entries:
                entries = {center: entries[center]}
            elif None in entries:
                entries = {None: entries[None]}
            elif method.unknown == "leave out" or center is None:
                entries = {}
        return [
            Estimator(
                method.name,
                "network",
                network=NetworkFile(
                    str(entry.path), entry.sha256, self.device, self.precision, self.keep_means
                ),
                center=trained_on,
            )
            for trained_on, entry in entries.items()
        ]

    def estimators(self, center: str, filters: Mapping[str, Mapping[str, float]]) -> list[Estimator]:
        """All of a center, low dose first and full dose last; `filters`: the parameters chosen for it."""
        found = [LOW]
        for method in self.rows:
            if not method.is_filter:
                found += self.networks(method, center)
            elif method.name in filters:
                found.append(Estimator(method.name, method.name, parameters=filters[method.name]))
        return [*found, FULL]

    def facts(self) -> list[dict[str, Any]]:
        """Name, kind, and models with their checksums, JSON-able."""
        facts = []
        for method in self.rows:
            entry: dict[str, Any] = {"name": method.name, "kind": "filter" if method.is_filter else "network"}
            if method.models:
                others = method.unknown if method.model is None else "model"
                entry |= {"kind": "specialists", "unknown_centers": others}
            if not method.is_filter:
                entry["models"] = [
                    {"center": center, "name": found.name, "sha256": found.sha256}
                    for center, found in self.entries[method.name].items()
                ]
            facts.append(entry)
        return facts


def _models(method: Method) -> Sequence[tuple[str | None, str | None]]:
    general: list[tuple[str | None, str | None]] = [(None, method.model)]
    if not method.models:
        return general
    return [*method.models.items(), *(general if method.model is not None else [])]
