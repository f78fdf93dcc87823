"""SATURATION: half of the values after some bounded activation, or of an attention's rows, lie on its flat parts."""

from __future__ import annotations

from graddoctor.diagnose.conditions.dead_units import feeding
from graddoctor.diagnose.observation import Observation
from graddoctor.diagnose.suspicion import Suspicion, held_back
from graddoctor.observe.attention import AttentionReading
from graddoctor.observe.probe import Probe
from graddoctor.observe.readings import ActivationReading
from graddoctor.terms import Condition

SHARE = 0.5


def saturation(seen: Observation) -> tuple[Suspicion, ...]:
    """Suspect bounded activations whose slope is under a tenth of its maximum for half of the values.

    An attention's softmax is one too, also where a fused kernel hides it.
    """
    shares: dict[str, tuple[float, int]] = {}
    for look in seen.moments:
        for a in _flattening(look):
            if a.saturated >= SHARE and not a.nonfinite and a.saturated > shares.get(a.name, (0.0, 0))[0]:
                shares[a.name] = (a.saturated, look.step)
    if not shares:
        return ()
    modules = {a.name: a.module for look in seen.moments for a in _flattening(look)}
    ranked = sorted(shares, key=lambda name: (shares[name][1], -shares[name][0]))
    where = [n for name in ranked for n in (modules[name], *feeding(seen, modules[name])) if n]
    worst = max(share for share, _ in shares.values())
    return (
        Suspicion(
            Condition.SATURATION,
            tuple(dict.fromkeys(where)),
            {"saturated_share": worst, "layers": float(len(shares)), "step": float(shares[ranked[0]][1])},
            decades=held_back(worst),
            at_start=any(a.saturated >= SHARE for a in _flattening(seen.start)),
            sentence=f"{worst:.0%} of the values of an activation lie where it is flat.",
        ),
    )


def _flattening(look: Probe) -> tuple[ActivationReading | AttentionReading, ...]:
    return (*inner(look), *(a for a in look.attention if a.fused))  # others show their softmax among the activations


def inner(look: Probe) -> tuple[ActivationReading, ...]:
    """The nonlinearities inside the network: not those of the loss, nor the softmax that makes its output.

    A softmax on the output that has become confident is no disease.
    """
    own = [a for a in look.activations if not a.name.startswith("loss:")]
    ends = look.output is not None and bool(own) and look.output.kind == own[-1].kind == "softmax"
    return tuple(own[:-1] if ends else own)
