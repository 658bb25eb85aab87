"""The command `drmc devices`: what a network can be computed on here."""

from __future__ import annotations

import argparse

from drmc.cli.arguments import add_json
from drmc.cli.printing import printed
from drmc.runtime.progress import Reporter

EXAMPLES = "  drmc devices\n  drmc devices --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    add_json(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Lists the devices, and returns the exit code."""
    from drmc.inference import devices

    found = devices.list_devices()
    if printed(options, reporter, found):
        return 0
    for one in found["devices"]:
        cores = f", {one['cores']} cores" if one["cores"] else ""
        free, total = (
            None if one[key] is None else f"{one[key] / 2**30:.1f}" for key in ("free_bytes", "total_bytes")
        )
        memory = f", {free or '?'} of {total} GiB free" if total else ""
        arithmetic = "bf16" if one["bf16"] else "fp32"
        chosen = "  (auto)" if one["name"] == found["auto"] else ""
        print(f"{one['name']}: {one['title']}{cores}{memory}, {arithmetic}{chosen}")
    print(f"auto takes {found['auto']}: {found['why']} (PyTorch {found['torch']})")
    return 0
