"""Arguments that commands of several packages share: where and in which arithmetic to compute."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from drmc.errors import InputError

PRECISIONS = ("auto", "fp32", "bf16")


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --device and --precision of a command that runs a network."""
    parser.add_argument(
        "--device",
        type=device_name,
        default="auto",
        metavar="{auto,cpu,cuda,mps}",
        help="where to compute (default auto)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="arithmetic (default auto: bf16 on CUDA cards that compute in it, else fp32)",
    )


def whole_number(least: int) -> Callable[[str], int]:
    """The `type` of an argument that is a whole number of at least `least`; argparse says so of any other."""

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = None
        if found is None or found < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
        return found

    return number


def device_name(text: str) -> str:
    """A device name as it is. Raises argparse.ArgumentTypeError for any other text."""
    head, _, number = text.partition(":")
    if head not in ("auto", "cpu", "cuda", "mps") or (number and not (head == "cuda" and number.isdecimal())):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda, cuda:N or mps")
    return text


def add_cpu_or_cuda_argument(parser: argparse.ArgumentParser, note: str = "") -> None:
    """Adds --device of a command that computes on a CPU or with CUDA; `note` ends its help."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help=f"where to compute (default auto){note}",
    )


def cpu_or_cuda(name: str, *, every: bool = False) -> list[str]:
    """The devices that a name of `add_cpu_or_cuda_argument` stands for, the fastest one last.

    Args:
        name: "auto" (CUDA where there is any, else the CPU), "cpu" or "cuda".
        every: "auto" stands for all devices of this machine.

    Raises:
        InputError: this machine has no such device.
    """
    import torch

    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if name == "auto":
        return present if every else present[-1:]
    if name not in present:
        raise InputError(f"--device {name}: this computer has no CUDA device that PyTorch can use; take cpu")
    return [name]
