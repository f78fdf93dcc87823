"""The experiments, one file each, in the order in which they are told."""

from graddoctor.lab.experiment import Experiment
from graddoctor.lab.experiments import (
    batch_norm,
    clipping,
    convolution,
    dying_relu,
    early_layers,
    half_precision,
    he,
    isometry,
    optimizers,
    plateau,
    relu_family,
    saturation,
    skip_connections,
    trainable_depth,
    weight_decay,
    xavier,
)

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    file.EXPERIMENT
    for file in (
        saturation,
        early_layers,
        plateau,
        xavier,
        he,
        relu_family,
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
