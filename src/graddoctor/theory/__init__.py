"""Mean-field facts about plain networks: what activation and weight scale do to a gradient, without any training."""

from graddoctor.theory.activations import Activation as Activation
from graddoctor.theory.activations import resolve as resolve
from graddoctor.theory.criticality import CriticalInit as CriticalInit
from graddoctor.theory.criticality import gain as gain
from graddoctor.theory.maps import Propagation as Propagation
from graddoctor.theory.maps import asymptotic_decades as asymptotic_decades
from graddoctor.theory.maps import chi as chi
from graddoctor.theory.maps import correlation_map as correlation_map
from graddoctor.theory.maps import depth_scale as depth_scale
from graddoctor.theory.maps import fixed_point as fixed_point
from graddoctor.theory.maps import length_map as length_map
from graddoctor.theory.maps import propagate as propagate
from graddoctor.theory.quadrature import Moments as Moments
from graddoctor.theory.quadrature import moments as moments
