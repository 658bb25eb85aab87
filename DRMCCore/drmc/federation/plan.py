"""What a consortium agrees on before it trains: its sites, its server and one training configuration."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.settings import check, from_json, located, setting

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig

PLAN = "plan.json"  # in every kit
STRATEGIES = ("fedavg", "ftl")
FEW_STEPS = 50
"""Steps of a round below which a lead is warned: weights that few patches changed may show them."""
SITE_NAME = r"[a-z][a-z0-9-]{0,61}[a-z0-9]"
# What each site says for itself, or what does not go with data at their sites.
_OWN_KEYS = (
    *("dataset", "output", "prepared", "threads", "slots_at_once", "accept_changed_data"),
    *("centers", "watched_dataset", "watched_centers", "kept_steps"),
)


@dataclass(frozen=True)
class Plan:
    """A consortium's plan, the same in every kit.

    Attributes:
        name: name of the consortium.
        server: host name of the server, as the sites reach it.
        port: its port.
        lead: the lead's name in its certificate, an e-mail address.
        sites: name of each site, and the name of its center in the model's card.
        training: a training configuration without what each site says for itself.
        min_sites: a run goes on without sites that are away if so many are there, 0 = it waits for all.
        patience_minutes: how long it waits for them before.
    """

    server: str = setting(pattern=r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", what="a host name")
    lead: str = setting(pattern=r"[a-z0-9._-]+@[a-z0-9.-]+", what="an e-mail address in lower case")
    sites: dict[str, str] = setting(not_empty=True, pattern=r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
    training: dict[str, Any] = setting(what="an object of training settings")
    name: str = setting("drmc", pattern=SITE_NAME, what="a name of small letters, digits and dashes")
    port: int = setting(8002, at_least=1, at_most=65535)
    min_sites: int = setting(0, at_least=0)
    patience_minutes: float = setting(30.0, at_least=0)

    def __post_init__(self) -> None:
        check(self)
        for site in self.sites:
            if not re.fullmatch(SITE_NAME, site) or site == "server":
                raise InputError(f"sites: '{site}' must be small letters, digits and dashes, not 'server'")
        if len(self.sites) < 2:
            raise InputError("sites: a federation has at least two; train one with 'drmc train'")
        if len(set(self.sites.values())) < len(self.sites):
            raise InputError("sites: two of them have the same center")
        if self.min_sites > len(self.sites):
            raise InputError(f"min_sites = {self.min_sites}: there are {len(self.sites)} sites")
        with located("training"):
            if own := [key for key in _OWN_KEYS if key in self.training]:
                raise InputError(f"'{own[0]}' is not of the plan: each site says that for itself")
            config = self.config()
            if config.strategy not in STRATEGIES:
                raise InputError(f"strategy = {config.strategy}: must be {' or '.join(STRATEGIES)}")
            if config.critic != "none":
                raise InputError(f"critic = {config.critic}: networks with a critic are not federated")

    def config(self, dataset: str = "", output: str = "", **own: Any) -> TrainingConfig:
        """The training configuration of a site; without arguments what all sites have in common.

        Args:
            dataset: the site's dataset.
            output: the site's folder for the run.
            **own: other settings that are the site's own.

        Raises:
            InputError: a value is not allowed.
        """
        from drmc.training.config import TrainingConfig

        given = {"strategy": STRATEGIES[0], **self.training, "centers": list(self.sites.values())}
        return TrainingConfig.from_dict({**given, "dataset": dataset, "output": output, **own}, "training")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the plan, with the order of its sites; server and sites compare it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types; `read` is the inverse."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads a plan, a JSON file.

        Raises:
            InputError: it cannot be read, a key is unknown or missing, or a value is not allowed.
        """
        values = read_json_object(path)
        with located(str(path)):
            return cls(**from_json(cls, values))


@dataclass(frozen=True)
class Round:
    """One round: steps `first` (included) to `last` (excluded) of the run.

    `judged`: whether the weights at its start are validated first.
    """

    number: int
    first: int
    last: int
    judged: bool


def rounds(config: TrainingConfig) -> list[Round]:
    """The rounds of a training, as its strategy ends them.

    The weights between two rounds are validated at the first end of a round at or after each multiple of
    `validate_every`; those after the last round always are, apart from these.
    """
    from drmc.training.strategies.federated_averaging import FederatedAveraging
    from drmc.training.strategies.registry import make_strategy

    strategy = make_strategy(config)
    assert isinstance(strategy, FederatedAveraging)
    ends = [step for step in range(1, strategy.last_round + 1) if strategy.ends_round(step)]
    found, first, before = [], 0, 0
    for number, last in enumerate(ends):
        due = first // config.validate_every > before // config.validate_every
        found.append(Round(number, first, last, due))
        first, before = last, first
    return found


def numbers_of(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The entries whose key begins with the prefix and a dot, without them."""
    start = f"{prefix}."
    return {key[len(start) :]: value for key, value in values.items() if key.startswith(start)}
