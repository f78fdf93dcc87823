"""Give a cross entropy logits, where the loss takes a softmax or a sigmoid of them first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from graddoctor.randomness import seeded
from graddoctor.recipe import Recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.lines import users_line
from graddoctor.remedies.plain.logits import LogitsMode, function_of_logits, loss_on_logits
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause
from graddoctor.train import BatchSource, build_model, loss_of

_BATCHES = 4
_SAME = 1e-3


class _Lines(LogitsMode):
    """Also notes which lines of the user's code call a function that should have been given logits."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = args[0] if args else (kwargs or {}).get("input")
        if id(given) in self.made:
            _, kind, logits, axis = self.made[id(given)]
            if function_of_logits(getattr(func, "__name__", ""), kind, axis, logits.ndim):
                self.lines.append(users_line())
        return super().__torch_function__(func, types, args, kwargs)


def on_logits(facts: Facts) -> Remedy | None:
    """Compute the loss on logits; ``None`` where it does, or where the gradient is the same that way.

    A softmax or sigmoid is seen when a cross entropy, a negative log-likelihood or a logarithm is given the very tensor
    that it returned: by the loss, or by a network that ends in it.

    Source: Bridle 1990 on softmax and its loss as one; Goodfellow, Bengio and Courville 2016, section 6.2.2.
    """
    mode = _Lines()
    batches = BatchSource(facts.recipe).first(_BATCHES)
    _slope(facts.recipe, batches[0], mode)
    lines = ", ".join(dict.fromkeys(filter(None, mode.lines)))
    if not mode.lines:
        return None
    treated = facts.recipe.with_(loss=lambda model, batch: loss_on_logits(model, batch, facts.recipe.loss))
    if not any(_differ(_slope(facts.recipe, batch), _slope(treated, batch)) for batch in batches):
        return None
    where = f" Better take the softmax or sigmoid out of what {lines} is given." if lines else ""
    note = f"The loss is computed on logits.{where}"
    return Remedy.written(
        "loss on logits", (Cause.LOSS,), [Edit("loss", loss_on_logits, {}, note)], source="Bridle 1990"
    )


def _slope(recipe: Recipe, batch: Any, mode: LogitsMode | None = None) -> torch.Tensor:
    """Gradient of all parameters in a row."""
    model = build_model(recipe)
    trained = [p for p in model.parameters() if p.requires_grad]
    with seeded(recipe.seed), torch.enable_grad():
        if mode is None:
            loss = loss_of(recipe, model, batch)
        else:
            with mode:
                loss = loss_of(recipe, model, batch)
    slopes = torch.autograd.grad(loss, trained, allow_unused=True)
    return torch.cat(
        [torch.zeros(p.numel()) if s is None else s.flatten().cpu() for p, s in zip(trained, slopes, strict=True)]
    )


def _differ(given: torch.Tensor, treated: torch.Tensor) -> bool:
    if not bool(treated.isfinite().all()):
        return False
    return not bool((given - treated).norm() <= _SAME * treated.norm())
