"""The experiments, one file each, in the order in which they are told."""

from graddoctor.lab.experiment import Experiment
from graddoctor.lab.experiments import clipping, early_layers, plateau, saturation, xavier

EXPERIMENTS: tuple[Experiment, ...] = (
    saturation.EXPERIMENT,
    early_layers.EXPERIMENT,
    plateau.EXPERIMENT,
    xavier.EXPERIMENT,
    clipping.EXPERIMENT,
)
"""All of them; another one is added by its line."""
