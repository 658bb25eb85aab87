"""The names of the parameters in checkpoints of the authors' code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

_AUTHORS_NAMES = {  # ours to theirs, applied to each parameter's name; {m} numbers the expert, which we stack
    "hidden_R": "hidden", "head.": "head_conv.", "tail.": "tail_conv.", "blocks.": "body.",
    "skip1_C": "beta", "skip2_C": "gamma", "norm1.": "norm1.norm.", "norm2.": "norm2.norm.",
    "router1.": "attention.routing.", "router2.": "mlp.routing.", "inner.": "conv1.", "outer.": "conv3.",
    "qkv_M3CC": "att_experts.{m}.qkv.weight", "temperature_Mh": "att_experts.{m}.temperature",
    "depthwise_MC333": "att_experts.{m}.dwconv.weight", "project_MCC": "att_experts.{m}.project_out.weight",
    "ffn.weight1_MFC": "mlp.mpl_experts.{m}.fc1.weight", "ffn.bias1_MF": "mlp.mpl_experts.{m}.fc1.bias",
    "ffn.weight2_MCF": "mlp.mpl_experts.{m}.fc2.weight", "ffn.bias2_MC": "mlp.mpl_experts.{m}.fc2.bias",
}  # fmt: skip


def authors_views(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields each of their keys with a detached view of our parameter in their shape."""
    for name, value in network.named_parameters():
        for ours, theirs in _AUTHORS_NAMES.items():
            name = name.replace(ours, theirs)
        for m, part in enumerate(value.detach() if "{m}" in name else [value.detach()]):
            if name.endswith(("hidden", "beta", "gamma")):
                part = part.view(1, -1, 1, 1, 1)
            elif name.endswith("temperature"):
                part = part.view(-1, 1, 1)
            elif "dwconv" in name:
                part = part[:, None]
            elif part.ndim in (2, 3):  # a linear map is a 1x1x1 convolution there; q, k, v in turn
                part = part.reshape(-1, part.shape[-1], 1, 1, 1)
            yield name.format(m=m), part


def authors_config(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """Reads the network's settings from the keys and shapes of a checkpoint of the authors' code.

    Raises:
        ValueError: a key that determines a setting is absent.
    """
    size = lambda key: len(state[key]) if state[key].ndim else 0
    expert = "body.0.attention.att_experts.{}.temperature".format
    try:
        return {
            "channels": (channels := size("head_conv.weight")),
            "blocks": len({key.split(".")[1] for key in state if key.startswith("body.")}),
            "experts": sum(expert(m) in state for m in range(len(state))),
            "heads": size(expert(0)),
            "hidden": size("body.0.attention.routing.conv1.weight"),
            "ffn_ratio": size("body.0.mlp.mpl_experts.0.fc1.weight") // max(1, channels),
            "use_hidden": "hidden" in state,
            "voxel_unshuffle": round(len(state["tail_conv.bias"]) ** (1 / 3)),
        }
    except KeyError as error:
        raise ValueError(f"not a checkpoint of the authors' network: no {error}") from error
