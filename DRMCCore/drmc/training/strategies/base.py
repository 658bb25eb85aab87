"""The interface of strategies, and what those with one site or with a site for each center have in common."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from drmc.errors import InputError
from drmc.networks.drmc import RoutedNetwork
from drmc.networks.protocol import ResidualNetwork
from drmc.training.critics import CRITICS, NONE, Critic, make_critic, needs_one_batch
from drmc.training.objectives import PATCHES, Adversarial, Objective
from drmc.training.start import make_optimizer
from drmc.training.tasks.registry import make_task

if TYPE_CHECKING:
    from drmc.training.config import TrainingConfig
    from drmc.training.processes import Processes

Slot = tuple[str, int]
"""A patch of a step: its center, and its number among those of the center."""


@dataclass
class Site:
    """A network that learns from some centers, with its moving average and optimizer.

    Attributes:
        name: the center, "" for the site of all centers.
        centers: the centers that it learns from.
        network: the network.
        average: the moving average of its weights.
        optimizer: the optimizer.
        share: its share of the training patients.
        owner: rank of the process that steps it, None: all processes together.
        critics: critics that belong to its training.
    """

    name: str
    centers: tuple[str, ...]
    network: ResidualNetwork
    average: ResidualNetwork
    optimizer: torch.optim.Optimizer
    share: float
    owner: int | None
    critics: dict[str, Critic] = field(default_factory=dict)

    def state(self) -> dict:
        """The state that a checkpoint stores."""
        state = {key: getattr(self, key).state_dict() for key in ("network", "average", "optimizer")}
        if self.critics:
            state["critics"] = {name: critic.state() for name, critic in self.critics.items()}
        return state

    def load(self, state: dict) -> None:
        """The inverse of `state`."""
        for key in ("network", "average", "optimizer"):
            getattr(self, key).load_state_dict(state[key])
        for name, critic in self.critics.items():
            critic.load(state["critics"][name])


class Strategy:
    """Which network learns from which centers; `name` is the key in configurations and checkpoints."""

    name: ClassVar[str]
    any_center: ClassVar[bool] = False
    """Whether a slot's patient may be of any center, not only of the slot's own."""
    splits_sites: ClassVar[bool] = False
    """Whether a site's slots are distributed over several processes."""

    def __init__(self, config: TrainingConfig):
        self.config = config

    def check(self) -> None:
        """Checks that the configuration's other settings fit this strategy.

        Raises:
            InputError: they do not.
        """

    def check_processes(self, count: int) -> None:
        """Checks that so many processes can take the steps.

        Raises:
            InputError: a step must be one batch in one process.
        """
        if count > 1 and self.splits_sites and needs_one_batch(self.config):
            raise InputError(
                "batch statistics or dropout, of network or critic, need the patches of a step in one "
                f"process, not {count}: start one with several threads, or choose another norm, no dropout"
            )

    @property
    def site_centers(self) -> dict[str, tuple[str, ...]]:
        """The centers that each site learns from, by the site's name."""
        raise NotImplementedError

    @property
    def step_slots(self) -> list[Slot]:
        """The slots of one step, of all sites and processes."""
        config = self.config
        return [(center, i) for i in range(config.patches_per_center) for center in config.centers]

    @property
    def most_processes(self) -> int:
        """The largest number of processes that have something to compute."""
        raise NotImplementedError

    def owner(self, number: int, processes: Processes) -> int | None:
        """The rank that steps the site of this number; None = all processes together."""
        raise NotImplementedError

    def slots(self, sites: Sequence[Site], processes: Processes) -> list[Slot]:
        """This process's share of a step's slots."""
        raise NotImplementedError

    def models(self, sites: Sequence[Site]) -> dict[str, ResidualNetwork]:
        """The models of the run by center, "" for every center; the sites must be shared before."""
        raise NotImplementedError

    def sites(self, patients: dict[str, int], processes: Processes) -> list[Site]:
        """The sites of a new run, on this process's device.

        Args:
            patients: number of training patients of each center.
            processes: the processes of the run.

        Raises:
            InputError: the configuration's initial weights or the number of processes do not fit.
        """
        config = self.config
        self.check_processes(processes.world)
        start = make_task(config).initial_network().to(processes.device)
        if isinstance(start, RoutedNetwork):  # a network without experts has one form only
            start.form = config.form
        sites = []
        for number, (name, centers) in enumerate(self.site_centers.items()):
            network, average = deepcopy(start).train(), deepcopy(start).eval()
            share = sum(patients[c] for c in centers) / sum(patients.values())
            optimizer = make_optimizer(network, config)
            owner, critics = self.owner(number, processes), self.critics(number, name, start)
            sites.append(Site(name, centers, network, average, optimizer, share, owner, critics))
        return sites

    def critics(self, number: int, name: str, network: ResidualNetwork) -> dict[str, Critic]:
        """The critics of a site at the start of a run, by name.

        Args:
            number: the site's number.
            name: the site's name.
            network: the network at the start, for its device and its latent features.
        """
        config = self.config
        if config.critic == NONE:
            return {}
        device = next(network.parameters()).device
        return {PATCHES: make_critic(lambda: CRITICS[config.critic](config), config, device, number)}

    def objective(self, processes: Processes) -> Objective:
        """What each step minimizes."""
        if self.config.critic != NONE:
            return Adversarial(self.config, processes)
        return make_task(self.config).objective(processes)

    def in_order(self, step: int, sites: Sequence[Site]) -> list[tuple[int, Site]]:
        """The sites with their numbers, in the order in which they take their step after `step` steps."""
        return list(enumerate(sites))

    def frozen(self, site: Site, step: int) -> list[torch.Tensor]:
        """Tensors of network and average that the site's next step, after `step` steps, does not change."""
        return frozen_tensors(site) if self.config.trainable == "decoder" else []

    def after_step(self, step: int, sites: Sequence[Site], processes: Processes) -> None:
        """Exchanges between the sites after `step` steps; all processes call it."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores besides the sites."""
        return {}

    def load(self, state: dict[str, Any], sites: Sequence[Site]) -> None:
        """Restores the state of a checkpoint, whose sites are restored already."""


class OneSite(Strategy):
    """One network, whose slots are distributed over all processes."""

    splits_sites = True

    @property
    def site_centers(self) -> dict[str, tuple[str, ...]]:
        """One site, with all centers; its name is empty."""
        return {"": self.config.centers}

    @property
    def most_processes(self) -> int:
        """As many as a step has slots."""
        return len(self.step_slots)

    def owner(self, number: int, processes: Processes) -> None:
        """All processes step the one site together."""
        return None

    def slots(self, sites: Sequence[Site], processes: Processes) -> list[Slot]:
        """Every `world`-th slot of the step, beginning with the process's rank."""
        return self.step_slots[processes.rank :: processes.world]

    def models(self, sites: Sequence[Site]) -> dict[str, ResidualNetwork]:
        """The moving average, for every center."""
        return {"": sites[0].average}


class SitePerCenter(Strategy):
    """A network for each center; each is assigned whole to one process."""

    @property
    def site_centers(self) -> dict[str, tuple[str, ...]]:
        """A site for each center, with its name."""
        return {center: (center,) for center in self.config.centers}

    @property
    def most_processes(self) -> int:
        """As many as there are centers."""
        return len(self.config.centers)

    def owner(self, number: int, processes: Processes) -> int:
        """The sites are assigned in turn."""
        return number % processes.world

    def slots(self, sites: Sequence[Site], processes: Processes) -> list[Slot]:
        """All slots of the sites that this process steps."""
        mine = {center for site in sites if site.owner == processes.rank for center in site.centers}
        return [slot for slot in self.step_slots if slot[0] in mine]


def frozen_tensors(site: Site) -> list[torch.Tensor]:
    """Parameters and buffers outside the decoder, of the site's network and of its moving average."""
    found: list[torch.Tensor] = []
    for network in (site.network, site.average):
        of_decoder = {
            id(tensor) for part in network.decoder for tensor in (*part.parameters(), *part.buffers())
        }
        every = (*network.parameters(), *network.buffers())
        found += [tensor for tensor in every if id(tensor) not in of_decoder]
    return found


def averaged(network: torch.nn.Module) -> list[torch.Tensor]:
    """The tensors that are averaged over networks: parameters and floating-point buffers."""
    return [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]


def share_sites(sites: Sequence[Site], processes: Processes, *, optimizers: bool) -> None:
    """Broadcasts networks and averages of all sites from their owners, on request also optimizer states."""
    for site in sites:
        if site.owner is None or processes.world == 1:
            continue
        processes.broadcast_([*averaged(site.network), *averaged(site.average)], site.owner)
        if optimizers:
            state = processes.broadcast_object(site.optimizer.state_dict, site.owner)
            if site.owner != processes.rank:
                site.optimizer.load_state_dict(state)
            for critic in site.critics.values():
                critic.load(processes.broadcast_object(critic.state, site.owner))


@torch.no_grad()
def average_sites(sites: Sequence[Site]) -> None:
    """Replaces every site's network and moving average by the mean over the sites, weighted by patients."""
    for of in ("network", "average"):
        mean = _mean([getattr(site, of) for site in sites], [site.share for site in sites])
        for site in sites:
            for mine, common in zip(averaged(getattr(site, of)), mean, strict=True):
                mine.copy_(common)


@torch.no_grad()
def mean_model(sites: Sequence[Site]) -> ResidualNetwork:
    """The mean of the sites' moving averages, weighted by patients."""
    model = deepcopy(sites[0].average)
    mean = _mean([site.average for site in sites], [site.share for site in sites])
    for tensor, value in zip(averaged(model), mean, strict=True):
        tensor.copy_(value)
    return model


def weighted_mean(values: Sequence[torch.Tensor], shares: Sequence[float]) -> torch.Tensor:
    """The sum of share x value, added up in the order of the arguments: its bits depend on nothing else."""
    total = torch.zeros_like(values[0])
    for share, value in zip(shares, values, strict=True):
        total += share * value
    return total


def _mean(networks: list[ResidualNetwork], shares: list[float]) -> list[torch.Tensor]:
    return [weighted_mean(stack, shares) for stack in zip(*map(averaged, networks), strict=True)]
