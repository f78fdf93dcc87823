"""Look at a network while it trains: the exact probe and the gradient budget, the light stream beside them."""

from graddoctor.observe.attention import AttentionReading as AttentionReading
from graddoctor.observe.budget import Budget as Budget
from graddoctor.observe.budget import Part as Part
from graddoctor.observe.budget import Row as Row
from graddoctor.observe.ledger import Signal as Signal
from graddoctor.observe.probe import Probe as Probe
from graddoctor.observe.probe import probe as probe
from graddoctor.observe.readings import ActivationReading as ActivationReading
from graddoctor.observe.readings import InputReading as InputReading
from graddoctor.observe.readings import OperationReading as OperationReading
from graddoctor.observe.readings import OutputReading as OutputReading
from graddoctor.observe.readings import ParameterReading as ParameterReading
from graddoctor.observe.readings import Spectrum as Spectrum
from graddoctor.observe.readings import TemporalReading as TemporalReading
from graddoctor.observe.temporal import through_time as through_time
