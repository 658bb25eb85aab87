"""Who learns from whom: one network for all centers, or a site for each center with a network of its own.

strategy      sites       a step of a site                              models
joint         one         a slot for each center                        one
mixed         one         as many slots, each of any center's patient   one
specialist    per center  the center's slots                            one per center
fedavg        per center  the center's slots; every `round_steps`       one: the sites' mean
                          steps the networks become their mean,
                          weighted by training patients
ftl           per center  as fedavg for `federated_steps`, then as      the mean of that moment, and one per center
                          specialists

The draws are the same in all of them, but for the patient in mixed, where "the loss of center C" is that of C's slots.
Sites keep their own optimizer's state when they are averaged (McMahan et al., AISTATS 2017, with a local optimizer); with
plain SGD, a round of one step, no clipping and as many patients everywhere, fedavg is joint training.
An unknown center's images go to the model without a center in its name.
Several processes: the slots of the one site are dealt to all, whose gradients are summed in each step. Several sites are
dealt whole; processes beyond their number wait, and nothing but a mean is exchanged until a checkpoint or a validation.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch

from drmc.networks.protocol import ResidualNetwork
from drmc.training.config import TrainingConfig
from drmc.training.processes import Processes
from drmc.training.start import initial_network, make_optimizer


@dataclass
class Site:
    """A network that learns from `centers`, its moving average and optimizer.

    `share`: of the training patients; `owner`: the process that steps it, None = all together.
    """

    name: str
    centers: tuple[str, ...]
    network: ResidualNetwork
    average: ResidualNetwork
    optimizer: torch.optim.Optimizer
    share: float
    owner: int | None

    def state(self) -> dict:
        """What a checkpoint keeps of it."""
        return {key: getattr(self, key).state_dict() for key in ("network", "average", "optimizer")}

    def load(self, state: dict) -> None:
        """The inverse of `state`."""
        for key in ("network", "average", "optimizer"):
            getattr(self, key).load_state_dict(state[key])


def averaged(network: torch.nn.Module) -> list[torch.Tensor]:
    """What a mean of networks is taken of: parameters, and statistics that a network keeps beside them."""
    return [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]


def make_sites(config: TrainingConfig, patients: dict[str, int], processes: Processes) -> list[Site]:
    """The sites of a new run; `patients`: training patients of each center."""
    one = config.strategy in ("joint", "mixed")
    names = {"": config.centers} if one else {center: (center,) for center in config.centers}
    start = initial_network(config).to(processes.device)
    if hasattr(start, "form"):  # a network without experts has one only
        start.form = config.form
    sites = []
    for number, (name, centers) in enumerate(names.items()):
        network, average = deepcopy(start).train(), deepcopy(start).eval()
        share = sum(patients[c] for c in centers) / sum(patients.values())
        owner = None if one else number % processes.world
        sites.append(Site(name, centers, network, average, make_optimizer(network, config), share, owner))
    return sites


def slots_of(config: TrainingConfig, sites: list[Site], processes: Processes) -> list[tuple[str, int]]:
    """This process's share of a step's slots (center, number)."""
    slots = [(center, i) for i in range(config.patches_per_center) for center in config.centers]
    if sites[0].owner is None:
        return slots[processes.rank :: processes.world]
    mine = {center for site in sites if site.owner == processes.rank for center in site.centers}
    return [slot for slot in slots if slot[0] in mine]


def share_sites(sites: list[Site], processes: Processes, *, optimizers: bool) -> None:
    """Gives all processes the networks and averages of all sites; `optimizers`: and their states."""
    for site in sites:
        if site.owner is None or processes.world == 1:
            continue
        processes.give_tensors([*averaged(site.network), *averaged(site.average)], site.owner)
        if optimizers:
            state = processes.give(site.optimizer.state_dict, site.owner)
            if site.owner != processes.rank:
                site.optimizer.load_state_dict(state)


def ends_round(config: TrainingConfig, step: int) -> bool:
    """Whether the sites are averaged after `step` steps."""
    return step <= config.last_round and (step % config.round_steps == 0 or step == config.last_round)


@torch.no_grad()
def average_sites(sites: list[Site]) -> None:
    """Every site's network and moving average become the mean over the sites, weighted by patients."""
    for of in ("network", "average"):
        mean = _mean([getattr(site, of) for site in sites], [site.share for site in sites])
        for site in sites:
            for mine, common in zip(averaged(getattr(site, of)), mean, strict=True):
                mine.copy_(common)


def models_of(
    config: TrainingConfig, sites: list[Site], general: ResidualNetwork | None
) -> dict[str, ResidualNetwork]:
    """The run's models by center, "" for the one of every center; sites must be shared.

    `general`: the mean at the end of the rounds, of ftl after them.
    """
    if config.strategy in ("joint", "mixed"):
        return {"": sites[0].average}
    own = {site.name: site.average for site in sites}
    if config.strategy == "specialist":
        return own
    mean = general or mean_model(sites)
    if config.strategy == "fedavg":
        return {"": mean}
    return {"": mean, **(own if general else dict.fromkeys(own, mean))}


@torch.no_grad()
def mean_model(sites: list[Site]) -> ResidualNetwork:
    """The mean of the sites' moving averages, weighted by patients."""
    model = deepcopy(sites[0].average)
    mean = _mean([site.average for site in sites], [site.share for site in sites])
    for tensor, value in zip(averaged(model), mean, strict=True):
        tensor.copy_(value)
    return model


def _mean(networks: list[ResidualNetwork], shares: list[float]) -> list[torch.Tensor]:
    stacks = zip(*map(averaged, networks), strict=True)
    return [sum(share * value for share, value in zip(shares, stack, strict=True)) for stack in stacks]
