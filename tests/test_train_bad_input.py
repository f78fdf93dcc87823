"""What cannot be trained is refused in one clear line."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from graddoctor.errors import RecipeError
from graddoctor.train import Observer, build_model, build_optimizer, train
from train_recipes import drawn_when_asked, loss, net, recipe, sgd


def frozen():
    return net().requires_grad_(False)


OTHER = net()
BAD = {
    "no network": ({"model": lambda: 3}, "model must build a torch.nn.Module; it returned int"),
    "nothing to train": ({"model": frozen}, "none of the network's 4 parameters requires a gradient"),
    "no parameters": ({"model": nn.Identity}, "none of the network's 0 parameters"),
    "lazy": ({"model": lambda: nn.LazyLinear(2)}, "lazy layers"),
    "vector loss": (
        {"loss": lambda m, b: functional.cross_entropy(m(b[0]), b[1], reduction="none")},
        r"loss must return a scalar; it returned shape \(4,\)",
    ),
    "float loss": ({"loss": lambda m, b: loss(m, b).item()}, "loss must return a tensor; it returned float"),
    "no loss": ({"loss": lambda m, b: None}, "loss must return a tensor; it returned NoneType"),
    "detached": ({"loss": lambda m, b: loss(m, b).detach()}, "depends on no trainable parameter"),
    "constant": ({"loss": lambda m, b: torch.tensor(1.0)}, "depends on no trainable parameter"),
    "of another network": ({"loss": lambda m, b: loss(OTHER, b)}, "depends on no trainable parameter of the network"),
    "of the input": (
        {"loss": lambda m, b: b[0].clone().requires_grad_().square().mean()},
        "depends on no trainable parameter of the network",
    ),
    "no optimizer": ({"optimizer": lambda m: None}, "must return a torch.optim.Optimizer; it returned NoneType"),
    "another's optimizer": ({"optimizer": lambda m: sgd(OTHER)}, "holds no parameter of the network it was given"),
    "closure": ({"optimizer": lambda m: torch.optim.LBFGS(m.parameters())}, "LBFGS calls the loss itself"),
}


@pytest.mark.parametrize(("changes", "says"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_in_one_clear_line(changes, says):
    with pytest.raises(RecipeError, match=says) as caught:
        train(recipe(**changes))
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_at_the_first_step_is_no_bad_input():
    assert train(recipe(loss=lambda m, b: loss(m, b) * math.nan), steps=3).first_nonfinite == 0


def test_a_loss_of_one_element_is_a_scalar():
    given = recipe(loss=lambda m, b: loss(m, b).reshape(1))
    assert train(given).losses.tolist() == train(recipe()).losses.tolist()


def test_an_optimizer_may_hold_more_than_the_network():
    extra = nn.Parameter(torch.zeros(1))
    given = recipe(optimizer=lambda m: torch.optim.SGD([*m.parameters(), extra], lr=0.1))
    assert build_optimizer(given, build_model(given)).param_groups[0]["params"][-1] is extra


def test_the_same_network_is_built_inside_and_outside_a_training():
    built, trained = [], []
    given = recipe(batches=drawn_when_asked)
    built = [p.detach().clone() for p in build_model(given).parameters()]

    class First(Observer):
        def built(self, model, optimizer, steps):
            trained.extend(p.detach().clone() for p in model.parameters())

    train(given, steps=1, observer=First())
    assert all(torch.equal(a, b) for a, b in zip(built, trained, strict=True))
