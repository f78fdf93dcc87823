"""The experiments, one file each, in the order in which they are told."""

from graddoctor.lab.experiment import Experiment
from graddoctor.lab.experiments import (
    batch_norm,
    clipping,
    convolution,
    dying_relu,
    half_precision,
    isometry,
    optimizers,
    skip_connections,
    trainable_depth,
    weight_decay,
)

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    file.EXPERIMENT
    for file in (
        dying_relu,
        clipping,
        weight_decay,
        optimizers,
        batch_norm,
        trainable_depth,
        isometry,
        half_precision,
        convolution,
        skip_connections,
    )
)
"""All of them; another one is added by its name."""
