"""Strategies: one network for all centers, or a site for each center with a network of its own.

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

A new strategy is a subclass of `drmc.training.strategies.base.Strategy` and an entry in `drmc.training.strategies.registry`.
"""
