"""The experiments, one file each, in the order in which they are told."""

from graddoctor.lab.experiment import Experiment
from graddoctor.lab.experiments import (
    batch_norm,
    clipping,
    convolution,
    copying,
    degradation,
    dying_relu,
    early_layers,
    edge_of_stability,
    fixup,
    forget_bias,
    half_precision,
    he,
    irnn,
    isometry,
    long_lags,
    optimizers,
    plateau,
    relu_family,
    saturation,
    shattered_gradients,
    skip_connections,
    temporal_order,
    trainable_depth,
    warm_up,
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
        long_lags,
        forget_bias,
        copying,
        irnn,
        temporal_order,
        convolution,
        degradation,
        skip_connections,
        shattered_gradients,
        fixup,
        warm_up,
        edge_of_stability,
    )
)
"""All of them; another one is added by its name."""
