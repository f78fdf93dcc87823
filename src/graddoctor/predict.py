"""`predict`: how much gradient a network will lose, before a single step of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import nn

from graddoctor.batches import BatchSource
from graddoctor.build import build_model
from graddoctor.errors import GraddoctorError, RecipeError
from graddoctor.randomness import kept_random_state, seed_everything
from graddoctor.recipe import Recipe, require_device
from graddoctor.show.compose_prediction import compose_prediction
from graddoctor.show.faces import Faces
from graddoctor.show.prediction import PredictionReport
from graddoctor.theory.expected import Expected, expected
from graddoctor.theory.frugal import lighter
from graddoctor.theory.outlook import LIMIT, Outlook
from graddoctor.theory.reading import depth_of, is_plain, late_slope, typical
from graddoctor.theory.recurrent import Recurrence, recurrences
from graddoctor.theory.stack import PlainStack, phase_of

WIDTH, ACTIVATION, WEIGHT_STD, BIAS_STD = 512, "tanh", 1.0, 0.0


@dataclass(frozen=True)
class Prediction(Outlook, Faces):
    """What theory expects of a network before training; the numbers are those of `graddoctor.theory.outlook.Outlook`.

    Examples
    --------
    >>> prediction = predict(depth=10, activation="sigmoid", weight_std=3**-0.5)
    >>> round(prediction.total, 2), prediction.phase, prediction.exit_code
    (-8.52, 'ordered', 1)
    >>> round(prediction.reach(3.0), 1)
    3.5
    """

    @property
    def exit_code(self) -> int:
        """0 up to three decades either way, 1 beyond."""
        return 0 if abs(self.total) <= LIMIT else 1

    def report(self) -> PredictionReport:
        """Return it as plain data that every face shows."""
        return compose_prediction(self)


def predict(
    recipe: Recipe | None = None,
    /,
    *,
    depth: int | None = None,
    width: int | None = None,
    activation: str | Callable[[Any], Any] | None = None,
    weight_std: float | None = None,
    bias_std: float | None = None,
) -> Prediction:
    """Say how much gradient a network will lose, before training it: a recipe's, or a plain stack.

    Mean-field theory follows the lengths and correlations of signals forward, and the norm of the gradient back,
    through the network's own modules (Poole et al. 2016, Schoenholz et al. 2017). Of a recipe's network it takes the
    scale of the weights, and one forward pass for its structure; no backward pass is run and nothing is changed.

    Parameters
    ----------
    recipe
        Whose network is built once.
    depth
        Instead of a recipe: how many layers of weights follow one another.
    width
        Units of a layer (512); it decides only how far single draws of the weights scatter.
    activation
        A name such as ``"tanh"``, or an elementwise function of a tensor.
    weight_std
        σ_w, the standard deviation of the weights × √fan_in (1.0).
    bias_std
        σ_b, the standard deviation of the biases (0.0).

    Raises
    ------
    GraddoctorError
        Both or neither of recipe and depth, a depth or width under 1, an activation that is not known (the message
        lists the known ones), a scale that is none.
    RecipeError
        The recipe's network cannot be run, its weights are not finite, or it has one layer only.

    Examples
    --------
    >>> round(predict(depth=50, activation="tanh", weight_std=1.0).total, 2)
    -0.92
    """
    scales = {"depth": depth, "width": width, "activation": activation, "weight_std": weight_std, "bias_std": bias_std}
    given = [name for name, value in scales.items() if value is not None]
    if recipe is not None:
        if given:
            raise GraddoctorError(f"predict takes a recipe or a depth, got both: leave out {', '.join(given)}")
        return _of_recipe(recipe)
    if depth is None:
        msg = "predict takes a recipe or a depth, got neither: as in  predict(depth=50, activation='tanh')"
        raise GraddoctorError(msg)
    return _of_stack(
        _whole(depth, "depth"),
        _whole(WIDTH if width is None else width, "width"),
        PlainStack.of(
            ACTIVATION if activation is None else activation,
            weight_std=WEIGHT_STD if weight_std is None else weight_std,
            bias_std=BIAS_STD if bias_std is None else bias_std,
        ),
    )


def _whole(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise GraddoctorError(f"{name}: expected a whole number from 1 on, got {value!r}")
    return int(value)


def _of_stack(depth: int, width: int, stack: PlainStack) -> Prediction:
    passed = stack.through(depth)
    if not np.isfinite(passed.lengths).all() or not (passed.decades < math.inf).all():
        raise GraddoctorError(
            f"{stack.activation.name} at weight_std={stack.weight_std:g}, bias_std={stack.bias_std:g}: within {depth} "
            "layers the signal is beyond all numbers; take fewer layers or smaller scales"
        )
    return Prediction(
        budget=stack.budget(passed),
        depth=depth,
        asymptotic=stack.asymptotic,
        chi=stack.chi,
        phase=stack.phase,
        stack=stack,
        scatter=stack.scatter(passed.lengths, width),
        name=f"{depth} layers of {stack.activation.name}",
    )


def _of_recipe(recipe: Recipe) -> Prediction:
    if not isinstance(recipe, Recipe):
        raise GraddoctorError(f"predict takes a Recipe, got a {type(recipe).__name__}: load one with load_recipe(file)")
    require_device(recipe.device)
    with kept_random_state(), torch.enable_grad():
        seed_everything(recipe.seed)
        model = build_model(recipe)
        batches = BatchSource(recipe).first(1)
        if not batches:
            raise RecipeError("batches gave no batch, and one is needed to see how the network is wired")
        with _entering(model) as squares:
            seen = lighter(lambda batch: expected(model, recipe.loss, batch), model, batches[0])
        recurrent = recurrences(model, squares)
    classes = {name: type(module).__name__ for name, module in model.named_modules() if name}
    return _outlook(seen, recurrent, recipe.name or "recipe", classes, drops=_drops(model))


@contextmanager
def _entering(model: nn.Module) -> Iterator[dict[str, float]]:
    """Note E[x²] of what recurrent layers are given, by their names."""
    squares: dict[str, float] = {}

    def note(name: str, given: Any) -> None:
        squares.setdefault(name, float(given.data.detach().float().square().mean()))  # packed or not

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.RNNBase)]
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: note(name, args[0])) for name, module in layers
    ]
    try:
        yield squares
    finally:
        for handle in handles:
            handle.remove()


def _drops(model: nn.Module) -> bool:
    """Whether dropout is at work, which a plain stack has none of."""
    kinds = nn.modules.dropout._DropoutNd  # noqa: SLF001 - their base
    return any(isinstance(module, kinds) and module.training and module.p > 0 for module in model.modules())


def _outlook(
    seen: Expected, recurrent: tuple[Recurrence, ...], name: str, classes: dict[str, str], *, drops: bool
) -> Prediction:
    stack = typical(seen.layers)
    plain = stack is not None and is_plain(seen.budget) and not drops
    slope = stack.asymptotic if stack is not None and plain else late_slope(seen.budget.rows)
    return Prediction(
        budget=seen.budget,
        depth=depth_of(seen.budget.rows),
        asymptotic=slope,
        chi=10 ** (2 * slope),
        phase=phase_of(slope),
        stack=stack,
        plain=plain,
        layers=seen.layers,
        recurrent=recurrent,
        unknown=seen.unknown,
        name=name,
        classes=classes,
    )
