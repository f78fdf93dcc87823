"""Lift a clip that swallows the gradient, or clip one that explodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import torch

from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.clips import clip_adaptively
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

HEAVY = 5.0
"""Norms are heavy-tailed where one in fifty is so many times their median."""

HUGE = 0.1
"""Norms are huge where a plain step at the median would change the weights by this share."""

GROWN = 100.0
"""Norms that end this many times above where they began explode."""

_TAIL, _QUIET, _RAISED = 0.98, 0.1, 0.9
_SPREAD = 3.0  # entries are clipped at so many root mean squares of a median gradient
_ADAPTIVE = 0.01  # Brock et al. 2021, table 6
_MATRIX = 2


def clipping(facts: Facts) -> list[Remedy]:
    """Clip the gradient: by norm, by value, and unit by unit.

    Thresholds come from the recorded norms. There is none where those are not known, or show neither spikes nor an
    explosion: a heavy tail, norms that grow without end, norms that are huge for the rate.

    Source: Pascanu, Mikolov and Bengio 2013; Graves 2013 (by value); Brock et al. 2021 (adaptive).
    """
    middle = facts.quantile(0.5)
    if not is_heavy(facts):
        return []
    blown = _grew(facts.norms) or _huge(facts, middle)
    norms = dict.fromkeys(_rounded(facts.quantile(share)) for share in ((0.5, _QUIET) if blown else (0.5,)))
    found = [clipped(norm) for norm in norms if norm > 0]
    count = sum(p.numel() for p in facts.model.parameters() if p.requires_grad)
    found.append(_by_value(_rounded(_SPREAD * middle / math.sqrt(count))))
    if _ends_with_its_output(facts):
        found.append(_adaptive())
    return found


def is_heavy(facts: Facts) -> bool:
    """Whether the recorded norms have spikes, grew without end, or are huge for the rate."""
    middle = facts.quantile(0.5)
    if not middle > 0:
        return False
    return _grew(facts.norms) or _huge(facts, middle) or facts.quantile(_TAIL) > HEAVY * middle


def clip_lifted(facts: Facts) -> Remedy | None:
    """Train without the recipe's clip; ``None`` where it has none."""
    return no_clipping() if facts.recipe.clip is not None else None


def clip_raised(facts: Facts) -> Remedy | None:
    """Clip only the norms above the recorded 90 % quantile, in place of the recipe's clip.

    ``None`` where it has none, or norms are not known.
    """
    threshold = _rounded(facts.quantile(_RAISED))
    return clipped(threshold) if facts.recipe.clip is not None and threshold > 0 else None


def no_clipping() -> Remedy:
    """Train without the recipe's clip."""
    edit = Edit("clip", note="No clip: it swallowed the gradient.")
    return Remedy.written("clipping lifted", (Cause.CLIPPING,), [edit])


def clipped(max_norm: float) -> Remedy:
    """Clip the total norm, in place of the recipe's own clip.

    Source: Pascanu, Mikolov and Bengio 2013.
    """
    edit = Edit("clip", torch.nn.utils.clip_grad_norm_, {"max_norm": max_norm})
    name = f"clipped at norm {max_norm:g}"
    return Remedy.written(name, (Cause.CLIPPING,), [edit], source="Pascanu et al. 2013")


def _by_value(limit: float) -> Remedy:
    edit = Edit("clip", torch.nn.utils.clip_grad_value_, {"clip_value": limit})
    name = f"clipped at value {limit:g}"
    return Remedy.written(name, (Cause.CLIPPING,), [edit], source="Graves 2013")


def _adaptive() -> Remedy:
    edit = Edit("clip", clip_adaptively, {"clipping": _ADAPTIVE})
    return Remedy.written("adaptive gradient clipping", (Cause.CLIPPING,), [edit], source="Brock et al. 2021")


def _grew(norms: Sequence[float]) -> bool:
    """Whether they were finite for a few steps only, or ended far above where they began."""
    part = len(norms) // 8
    return not part or median(norms[-part:]) > GROWN * median(norms[:part])


def _huge(facts: Facts, norm: float) -> bool:
    """Whether a step of plain gradient descent of the median gradient would be a large part of the weights."""
    weights = torch.stack([p.detach().float().norm() for p in facts.model.parameters()]).norm()
    plain = isinstance(facts.optimizer, torch.optim.SGD)
    rate = max(float(group["lr"]) for group in facts.optimizer.param_groups)
    return plain and rate * norm > HUGE * float(weights)


def _ends_with_its_output(facts: Facts) -> bool:
    """Whether the last matrix that the network holds is also the last that it uses, so that it can be spared."""
    matrices = [name for name, p in facts.model.named_parameters() if p.ndim >= _MATRIX]
    used = list(facts.survey.weights) if facts.survey else []
    return len(matrices) > 1 and bool(used) and used[-1] == matrices[-1]


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
