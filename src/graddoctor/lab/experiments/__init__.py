"""The experiments, one file each, in the order in which they are told."""

from graddoctor.lab.experiment import Experiment
from graddoctor.lab.experiments import clipping, early_layers, he, plateau, relu_family, saturation, xavier

EXPERIMENTS: tuple[Experiment, ...] = (
    saturation.EXPERIMENT,
    early_layers.EXPERIMENT,
    plateau.EXPERIMENT,
    xavier.EXPERIMENT,
    he.EXPERIMENT,
    relu_family.EXPERIMENT,
    clipping.EXPERIMENT,
)
"""All of them; another one is added by its line."""
