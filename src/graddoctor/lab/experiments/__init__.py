"""The experiments, one file each, in the order in which they are told."""

from graddoctor.lab.experiment import Experiment
from graddoctor.lab.experiments import clipping, convolution, dying_relu, skip_connections

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    file.EXPERIMENT for file in (dying_relu, clipping, convolution, skip_connections)
)
"""All of them; another one is added by its name."""
