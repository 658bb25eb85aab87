"""What a training offers by name, and when to choose it: presets, networks and strategies.

The sentences are said here once; docs/training.md and the panel in Slicer show them. The names are those of
`drmc.training.presets` and `drmc.training.strategies.registry`, without the networks of organs. Imports no
torch, since Slicer shows them without it.
"""

from __future__ import annotations

PRESETS = {
    "default": "for every training without a reason for another: the best recipe found",
    "paper": "to train as the paper did, 200 epochs of patches of 64: for GPUs",
    "tiny": "to see that a training runs: seconds, and it learns almost nothing",
    "unet3d": "to compare with the U-Net of FL-MRCM by its own loss and optimizer",
    "unet3d-published": "as unet3d in the published size and form, four times the parameters",
    "cgan3d": "to compare with 3D-cGAN: its generator, small, and its critic",
    "cgan3d-published": "as cgan3d in the published size and form, nineteen times the parameters: for GPUs",
    "cvtgan3d": "to compare with 3D CVT-GAN: its generator, small, and its critic; one process",
    "cvtgan3d-published": "as cvtgan3d in the published size and form, four times the parameters",
}

NETWORKS = {
    "drmc": "to begin with: the paper's form of routing in the preset's size",
    "baseline": "to compare with (the paper's Table 5): what routing is worth, little in docs/results.md",
    "without_hidden": "to compare with (the paper's Table 4, w/o H): routers without a hidden state",
    "softmax": "to compare with (the paper's Table 4): softmax gates, which leave no expert out",
    "top2": "to compare with (the paper's Table 4): always the two experts with the largest gates",
    "udrmc": "many or unknown scanners, or small lesions: the network of drmc-any and drmc-c1c4",
    "udrmc-48": "as udrmc, where patients and time suffice for twice the parameters; no shipped model has it",
    "resunet": "to compare with a usual residual U-Net: no experts, so no routing to look at",
    "unet3d": "to compare with, for federated methods; its loss and optimizer come with the preset unet3d",
    "unet3d-published": "as unet3d in the published size, without residual: check the bias of SUVmean",
    "cgan3d": "to compare with 3D-cGAN's generator alone; its critic comes with the preset cgan3d",
    "cgan3d-published": "as cgan3d in the published size, made for patches of 64: for GPUs",
    "cvtgan3d": "to compare with 3D CVT-GAN's generator alone; its critic comes with the preset cvtgan3d",
    "cvtgan3d-published": "as cvtgan3d in the published size, with batch norm",
}

STRATEGIES = {
    "joint": "all data are in one place: the default",
    "mixed": "centers do not matter to the question, or to compare with pooled training",
    "specialist": "each center has patients enough, no unknown one will come; docs/results.md prefers joint",
    "fedavg": "data cannot leave their sites; with all data in one place, to see what that costs",
    "ftl": "data cannot leave their sites, and each site wants a model of its own",
    "flmrcm": "to compare with FL-MRCM, whose sites send latent features besides weights",
    "flmrcm_mix": "to compare with FL-MRCM where all data are in one place, as in the paper's Table 2",
}
