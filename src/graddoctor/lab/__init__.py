"""The lab: classic claims about training deep networks, put to the test on the reader's own machine.

>>> from graddoctor import lab
>>> report = lab.run("clipping", quick=True)  # doctest: +SKIP

Each experiment is one file in `graddoctor.lab.experiments`; it uses nothing but graddoctor's public face.
"""

from graddoctor.lab.experiment import Experiment as Experiment
from graddoctor.lab.experiment import Picture as Picture
from graddoctor.lab.experiment import Question as Question
from graddoctor.lab.experiment import cross as cross
from graddoctor.lab.experiments import EXPERIMENTS as EXPERIMENTS
from graddoctor.lab.run import run as run
from graddoctor.lab.table import Measured as Measured
from graddoctor.lab.table import Table as Table
