"""Skip connections are prescribed for plain deep stacks, around the right layers, and nowhere else."""

from itertools import pairwise

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import Functional, data, mlp, recipe, sgd
from surgery_networks import assert_same_parameters
from torch import nn

from graddoctor.remedies.activation import unsaturated
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.normalization import normalised
from graddoctor.remedies.residual import chains_of, longest_run, residual, residuals
from graddoctor.terms import Cause
from graddoctor.train import build_model, train


def deep(act=nn.Tanh, layers=20):
    """As PyTorch starts it, of twenty layers hardly anything reaches the first."""
    model = nn.Sequential(nn.Linear(6, 16), act())
    for _ in range(layers - 1):
        model.extend([nn.Linear(16, 16), act()])
    return model.append(nn.Linear(16, 2))


class Spelled(nn.Module):
    def __init__(self, activation=torch.tanh, layers=20):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 16), *(nn.Linear(16, 16) for _ in range(layers - 1))])
        self.out, self.activation = nn.Linear(16, 2), activation

    def forward(self, x):
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.out(x)


def line(**changes):
    x, _ = data(256)
    batches = list(zip(x.split(32), (x[:, 0] > 0).long().split(32), strict=True))
    parts = {"batches": batches, "epochs": 20, "optimizer": lambda m: sgd(m, 0.05, momentum=0.9)}
    return recipe(**{**parts, **changes})


def spans(remedy):
    (edit,) = remedy.edits
    return edit.arguments["spans"]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    ("build", "rate"),
    [(deep, 0.05), (lambda: deep(nn.Sigmoid), 0.3), (Spelled, 0.05), (lambda: Spelled(lambda x: x.relu_()), 0.05)],
    ids=["tanh", "sigmoid", "spelled", "in place"],
)
def test_the_right_cure_of_twenty_plain_layers(build, rate, zero):
    given = line(model=build, optimizer=lambda m: sgd(m, rate, momentum=0.9))
    remedy = residual(Facts(given), zero=zero)
    assert train(given).losses[-8:].mean() > 0.68
    assert train(remedy(given)).losses[-8:].mean() < 0.25
    assert remedy.causes == (Cause.DEPTH,)
    assert remedy.source.startswith("He et al. 2016")
    assert_same_parameters(build_model(remedy(given)), build_model(given))


def test_every_two_layers_from_the_first_on():
    remedy = residual(Facts(line(model=lambda: deep(layers=8))))
    assert spans(remedy) == (("0", "4"), ("4", "8"), ("8", "12"))
    assert remedy.edits[0].arguments["scale"] == pytest.approx(3**-0.5, abs=1e-4)
    assert remedy.name == "3 skip connections"


def test_shut_branches_are_opened_by_a_parameter():
    given = line(model=deep)
    remedy = residual(Facts(given), zero=True)
    more = set(build_model(remedy(given)).state_dict()) - set(build_model(given).state_dict())
    assert more == {f"{4 * k}.skip_scale" for k in range(1, 10)}
    assert remedy.cost.startswith("9 parameters")


def exploding():
    model = deep(nn.ReLU)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, gain=2.4)
    return model


def test_both_kinds_help_where_the_signal_explodes():
    given = line(model=exploding, optimizer=lambda m: sgd(m, 0.001, momentum=0.9))
    assert train(given).ended == "non-finite"
    found = residuals(Facts(given))
    assert [remedy.name for remedy in found] == ["9 skip connections", "9 skip connections that start at zero"]
    assert all(train(remedy(given)).losses[-8:].mean() < 0.4 for remedy in found)


def test_a_deep_stack_keeps_the_size_of_its_signal():
    torch.manual_seed(0)
    x = torch.randn(64, 16)
    for layers in (10, 40):
        body = [part for _ in range(layers) for part in (nn.Linear(16, 16, bias=False), nn.ReLU())]
        model = nn.Sequential(*body, nn.Linear(16, 2))
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        given = line(model=model, batches=[x], loss=lambda m, b: m(b).square().mean())
        treated = build_model(residual(Facts(given))(given))
        last = treated[2 * layers - 2]
        sizes = []
        for module in (treated[0], last):
            module.register_forward_hook(lambda _, __, output, sizes=sizes: sizes.append(float(output.detach().std())))
        treated(x)
        assert 0.5 < sizes[1] / sizes[0] < 3


def test_norms_belong_to_the_branch():
    def build():
        parts = (part for _ in range(6) for part in (nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU()))
        return nn.Sequential(*parts, nn.Linear(6, 2))

    assert spans(residual(Facts(line(model=build)))) == (("1", "7"), ("7", "13"))


def wide_and_narrow():
    widths = [6, 8, 8, 8, 8, 8, 12, 12]
    parts = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*parts, nn.Linear(12, 2))


def test_other_widths_are_reached_through_a_projection():
    given = line(model=wide_and_narrow)
    remedy = residual(Facts(given))
    assert spans(remedy) == (("0", "4"), ("4", "8"), ("8", "12"))
    assert remedy.edits[0].arguments["projections"] == {"12": (8, 12)}
    assert remedy.cost.startswith("96 parameters")
    assert build_model(remedy(given))(data()[0]).shape == (32, 2)


def images(*, strided):
    first = [nn.Unflatten(1, (1, 2, 3)), nn.Upsample(scale_factor=4), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()]
    body = [part for _ in range(4) for part in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    more = [nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.ReLU()] if strided else [nn.AvgPool2d(3), nn.Conv2d(4, 6, 1)]
    more += [nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()] if strided else [nn.ReLU()]
    return nn.Sequential(*first, *body, *more, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))


def test_images_are_passed_by_and_shrunk_by_a_projection():
    given = line(model=lambda: images(strided=True), epochs=1)
    remedy = residual(Facts(given))
    assert spans(remedy) == (("2", "6"), ("6", "10"), ("10", "14"))
    assert remedy.edits[0].arguments["projections"] == {"14": (4, 6, 2, 2)}
    assert train(remedy(given)).ended == "complete"


def test_a_chain_that_forks_or_is_called_again_is_no_chain():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = deep(layers=6), deep(layers=6)
            self.again, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = torch.cat([self.one(x), self.other(x)], 1)
            for _ in range(6):
                x = torch.tanh(self.again(x))
            return self.out(x)

    seen = Facts(line(model=Towers))
    chains = chains_of(seen.anatomy)
    assert sorted(len(chain) for chain in chains) == [6, 6]
    assert {chain[0].point for chain in chains} == {"one.0", "other.0"}
    assert spans(residual(seen)) == tuple(
        (f"{tower}.{4 * k}", f"{tower}.{4 * k + 4}") for tower in ("one", "other") for k in range(2)
    )


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.out = nn.Linear(6, 8), nn.Linear(8, 2)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(8))

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(torch.relu(x))
        return self.out(x)


def funnel():
    widths = [6, 32, 16, 8, 4]
    parts = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*parts, nn.Linear(4, 2))


@pytest.mark.parametrize("build", [mlp, Functional, Residual, funnel, lambda: nn.Linear(6, 2), lambda: deep(layers=3)])
@pytest.mark.parametrize("zero", [False, True])
def test_shallow_networks_and_residual_ones_get_none(build, zero):
    seen = Facts(line(model=build))
    assert residual(seen, zero=zero) is None
    assert residuals(seen) == []


def test_what_has_skips_now_needs_none():
    given = line(model=deep)
    seen = Facts(given)
    assert residual(seen.after(residual(seen))) is None


def test_the_longest_run_counts_equal_shapes():
    (chain,) = chains_of(Facts(line(model=wide_and_narrow)).anatomy)
    assert longest_run(chain) == 5


@pytest.mark.parametrize("build", [deep, lambda: images(strided=True), wide_and_narrow, lambda: Spelled(torch.sigmoid)])
@pytest.mark.parametrize("zero", [False, True])
def test_what_is_pasted_is_what_was_proven(build, zero):
    given = line(model=build)
    assert_same_when_pasted(given, residual(Facts(given), zero=zero), steps=3)


def test_surgery_adds_up():
    given = line(model=Spelled, epochs=2)
    seen = Facts(given)
    parts = residual(seen), normalised(seen), unsaturated(seen, "gelu")
    outcomes = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        first, second, third = (parts[k] for k in order)
        outcomes.append(train(first.then(second).then(third)(given)).losses.tolist())
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert_same_when_pasted(given, parts[0].then(parts[1]).then(parts[2]), steps=3)
