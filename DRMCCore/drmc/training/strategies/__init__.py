"""Strategies: one network for all centers, or a site with its own network for each center.

strategy      sites       a step of a site                              models
joint         one         a slot for each center                        one
mixed         one         as many slots, each of any center's patient   one
specialist    per center  the center's slots                            one per center
fedavg        per center  the center's slots; every `round_steps`       one: the mean of the sites
                          steps the networks become their mean,
                          weighted by training patients
ftl           per center  as fedavg for `federated_steps`, then as      the mean at that step, and one
                          specialist                                    per center
flmrcm        per center  as fedavg, with latent features that are      one: the mean of the sites
                          aligned with those of a target center
flmrcm_mix    one         as joint, with the same alignment             one

All strategies draw the same patches, except for the patient in mixed, where "the loss of center C" is that of
C's slots. When sites are averaged, each keeps the state of its own optimizer (McMahan et al., AISTATS 2017,
with a local optimizer). With plain SGD, rounds of one step, no clipping and equal numbers of patients, fedavg
is the same as joint training. Images of an unknown center are denoised by the model without a center in its
name.

With several processes, the slots of a single site are distributed over all of them, and the gradients are
summed in each step. Several sites are assigned whole; processes beyond their number wait, and only means are
exchanged until a checkpoint or a validation.

A new strategy is a subclass of `drmc.training.strategies.base.Strategy` and an entry in
`drmc.training.strategies.registry`.
"""
