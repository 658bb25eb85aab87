"""The processes of one training, as torchrun starts them: joining, sums, and broadcasts."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as distributed

# Imported before there is a group: its functions store the group of the moment when they are defined, and
# with it threads that abort the process when Python ends. Otherwise the first optimizer would import it.
import torch.distributed.nn

from drmc.errors import DRMCError, InputError

PATIENCE = timedelta(hours=2)  # all processes wait while the first one validates
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """The rank of this process among `world` processes, and its device."""

    rank: int = 0
    world: int = 1
    device: torch.device = _CPU

    def all_reduce_(self, values: dict[str, float]) -> None:
        """Replaces each value by its sum over the processes, in place.

        All processes must call it with the same keys.

        Raises:
            DRMCError: another process ended.
        """
        if self.world > 1:
            summed = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
            with peer_failure_as_error():
                distributed.all_reduce(summed)
            values.update(zip(values, summed.tolist(), strict=True))

    def sum_(self, tensor: torch.Tensor) -> None:
        """Replaces a tensor by its sum over the processes, in place; all must call it with the same shape.

        Raises:
            DRMCError: another process ended.
        """
        if self.world > 1:
            with peer_failure_as_error():
                distributed.all_reduce(tensor)

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replaces the gradients by their sums over the processes; a missing gradient counts as zero.

        Raises:
            DRMCError: another process ended.
        """
        if self.world > 1:
            flat = torch.cat(
                [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
            )
            with peer_failure_as_error():
                distributed.all_reduce(flat)
            for p, summed in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                p.grad = summed.view_as(p)

    def broadcast_(self, tensors: Iterable[torch.Tensor], source: int) -> None:
        """Copies tensors from one process to all others, in place.

        Args:
            tensors: of one dtype, of any shapes, the same in all processes.
            source: rank of the process that has the values.

        Raises:
            DRMCError: another process ended.
        """
        if self.world > 1:
            tensors = list(tensors)
            flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
            with peer_failure_as_error():
                distributed.broadcast(flat, source)
            with torch.no_grad():
                for tensor, values in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                    tensor.copy_(values.view_as(tensor))

    def broadcast_object(self, make: Callable[[], Any], source: int = 0) -> Any:
        """Calls a function in one process and returns its result in all of them.

        Args:
            make: the function; its result must be picklable.
            source: rank of the process that calls it.

        Raises:
            DRMCError: another process ended, or `make` raised it, which is raised in all processes then.
        """
        if self.world == 1:
            return make()
        box: list[Any] = [None]
        if self.rank == source:
            try:
                box = [make()]
            except DRMCError as error:
                box = [error]
        with peer_failure_as_error():
            distributed.broadcast_object_list(box, source)
        if isinstance(box[0], DRMCError):
            raise box[0]
        return box[0]


@contextmanager
def joined(*, deterministic: bool) -> Iterator[Processes]:
    """Joins the processes that torchrun's environment describes, and leaves them at the end.

    They communicate by gloo on CPU and by nccl on CUDA.

    Args:
        deterministic: whether PyTorch is to use deterministic algorithms on a GPU.

    Raises:
        InputError: the processes cannot connect, or this one has no GPU of its own.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = _CPU
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", 0))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"process {local} of this machine has no GPU of its own ({torch.cuda.device_count()} found): "
                "start fewer processes"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = not deterministic
        if deterministic:  # on a CPU all operations used here are deterministic
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
    if world == 1:
        yield Processes(rank, world, device)
        return
    try:
        store = _store_of_this_start(rank, world)
        backend = "gloo" if device.type == "cpu" else "nccl"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        reason = "the port is in use" if "EADDRINUSE" in str(error) else str(error).partition("\n")[0]
        raise InputError(
            f"the {world} processes cannot meet at {where} ({reason}): choose another port (torchrun "
            "--standalone finds a free one)"
        ) from None
    try:
        yield Processes(rank, world, device)
    finally:
        distributed.destroy_process_group()


def _store_of_this_start(rank: int, world: int) -> distributed.Store:
    """The store through which the processes find each other, under a key that is new in every start.

    When torchrun restarts the processes, its store still contains the addresses of those that ended. Each
    process asks under a key of its own, also new in every start, and the first process answers with the
    common key.
    """
    store, _, _ = next(distributed.rendezvous("env://", timeout=PATIENCE))
    word, deadline = uuid.uuid4().hex, time.monotonic() + PATIENCE.total_seconds()
    if rank:
        store.set(f"drmc/question/{rank}", word)
        word = store.get(f"drmc/answer/{word}").decode()  # waits for it
        store.set(f"drmc/heard/{word}/{rank}", "yes")
    missing = set(range(1, world)) if rank == 0 else set()
    while missing:
        for other in sorted(missing):
            if store.check([f"drmc/question/{other}"]):
                store.set(f"drmc/answer/{store.get(f'drmc/question/{other}').decode()}", word)
            if store.check([f"drmc/heard/{word}/{other}"]):
                missing.remove(other)
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {min(missing)} did not connect")
        time.sleep(0.02)
    return distributed.PrefixStore(f"drmc/{word}", store)


@contextmanager
def peer_failure_as_error() -> Iterator[None]:
    """Raises DRMCError if a collective operation fails because another process ended."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise DRMCError(
            f"another process of this training ended ({reason}): start it again, it continues from the last "
            "checkpoint"
        ) from None
