"""Norms are prescribed for layers that lack one, of the kind that suits layer and batch, and nowhere else."""

import numpy as np
import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import Functional, data, mlp, recipe, sgd
from surgery_networks import WithinTransformer, assert_same_parameters
from torch import nn
from torch.nn import functional

from graddoctor.errors import GraddoctorError
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.normalization import normalised, pre_layernorm
from graddoctor.terms import Cause
from graddoctor.train import build_model, train


def deep(act=nn.Sigmoid, layers=20):
    """As PyTorch starts it, twenty layers of sigmoids make all samples one."""
    model = nn.Sequential(nn.Linear(6, 16), act())
    for _ in range(layers - 1):
        model.extend([nn.Linear(16, 16), act()])
    return model.append(nn.Linear(16, 2))


def line(size=32, **changes):
    x, _ = data(256)
    batches = list(zip(x.split(size), (x[:, 0] > 0).long().split(size), strict=True))
    return recipe(batches=batches, **changes)


def norms(remedy, given):
    """Class of the norm of each layer that has one."""
    model = build_model(remedy(given))
    found = ((name, module) for name, module in model.named_modules() if name.endswith("norm"))
    return {name.rpartition(".")[0]: type(module) for name, module in found}


def test_the_right_cure_of_twenty_sigmoid_layers():
    given = line(model=deep, epochs=20, optimizer=lambda m: sgd(m, 0.05, momentum=0.9))
    remedy = normalised(Facts(given))
    assert train(given).losses[-8:].mean() > 0.68
    assert train(remedy(given)).losses[-8:].mean() < 0.2
    assert remedy.causes == (Cause.NORMALIZATION,)
    assert remedy.source == "Ioffe and Szegedy 2015"
    assert remedy.name == "BatchNorm after 20 layers"
    assert remedy.modules == tuple(str(2 * k) for k in range(20))


def test_the_cost_counts_the_parameters():
    given = line(model=deep)
    for kind, each in (("batch", 2), ("layer", 2), ("rms", 1), ("group", 2)):
        remedy = normalised(Facts(given), kind)
        more = [sum(p.numel() for p in build_model(r).parameters()) for r in (remedy(given), given)]
        assert more[0] - more[1] == 20 * 16 * each
        assert remedy.cost.startswith(f"{20 * 16 * each} parameters")


@pytest.mark.parametrize("kind", ["batch", "layer", "rms", "group"])
def test_each_kind_trains(kind):
    given = line(model=mlp)
    remedy = normalised(Facts(given), kind)
    outcome = train(remedy(given))
    assert outcome.ended == "complete"
    assert_same_parameters(build_model(remedy(given)), build_model(given))


@pytest.mark.parametrize(("size", "kind"), [(8, nn.BatchNorm1d), (4, nn.LayerNorm)])
def test_small_batches_have_no_statistics(size, kind):
    given = line(size, model=mlp)
    assert set(norms(normalised(Facts(given)), given).values()) == {kind}
    assert (normalised(Facts(given), "batch") is None) is (size < 8)


def cnn():
    first = [nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()]
    second = [nn.Conv2d(8, 48, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 8), nn.ReLU(), nn.Linear(8, 2)]
    return nn.Sequential(*first, *second)


@pytest.mark.parametrize(
    ("size", "kind", "expected"),
    [
        (16, None, [nn.BatchNorm2d, nn.BatchNorm2d, nn.BatchNorm1d]),
        (4, None, [nn.GroupNorm, nn.GroupNorm, nn.LayerNorm]),
        (16, "layer", [nn.GroupNorm, nn.GroupNorm, nn.LayerNorm]),
        (16, "rms", [nn.GroupNorm, nn.GroupNorm, nn.RMSNorm]),
        (16, "group", [nn.GroupNorm, nn.GroupNorm, nn.GroupNorm]),
    ],
)
def test_the_norm_suits_the_layer(size, kind, expected):
    given = line(size, model=cnn)
    remedy = normalised(Facts(given), kind)
    assert norms(remedy, given) == dict(zip(["1", "3", "6"], expected, strict=True))
    assert train(remedy(given)).ended == "complete"


def test_a_layer_norm_on_images_is_over_all_channels_and_a_group_norm_is_not():
    given = line(model=cnn)
    groups = [build_model(normalised(Facts(given), kind)(given))[3].norm.num_groups for kind in ("layer", "group")]
    assert groups == [1, 16]


class Recurrent(nn.Module):
    """One layer called three times, and one on values at several places."""

    def __init__(self):
        super().__init__()
        self.again, self.places, self.out = nn.Linear(6, 6), nn.Linear(2, 4), nn.Linear(12, 2)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.again(x))
        return self.out(torch.relu(self.places(x.view(-1, 3, 2))).flatten(1))


def test_layers_called_again_and_values_at_places_get_a_layer_norm():
    given = line(model=Recurrent)
    assert norms(normalised(Facts(given)), given) == {"again": nn.LayerNorm, "places": nn.LayerNorm}
    assert normalised(Facts(given), "batch") is None


def test_a_last_batch_of_one_is_no_error():
    x, y = data(33)
    given = recipe(batches=list(zip(x.split(16), y.split(16), strict=True)))
    assert train(normalised(Facts(given))(given)).ended == "complete"


def with_norms():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


class PreNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        return self.out(x + self.second(torch.relu(self.first(self.norm(x)))))


@pytest.mark.parametrize(
    "build",
    [
        with_norms,
        PreNorm,
        lambda: nn.Sequential(WithinTransformer(), nn.Linear(6, 2)),
        lambda: nn.Linear(6, 2),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 2)),
    ],
    ids=["normalised", "pre-norm", "transformer", "linear", "two linear"],
)
def test_what_lacks_none_gets_none(build):
    assert normalised(Facts(line(model=build))) is None


def test_a_frozen_layer_gets_none():
    def build():
        model = mlp()
        model[0].requires_grad_(False)
        return model

    given = line(model=build)
    assert norms(normalised(Facts(given)), given) == {"2": nn.BatchNorm1d}


def test_bare_weights_have_no_module_to_put_one_behind():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4, 2))

        def forward(self, x):
            return torch.tanh(x @ self.one) @ self.other

    assert normalised(Facts(line(model=Bare))) is None


def test_what_is_normalised_needs_it_no_more():
    given = line(model=mlp)
    seen = Facts(given)
    assert normalised(seen.after(normalised(seen))) is None


@pytest.mark.parametrize("build", [mlp, cnn, Functional])
def test_what_is_pasted_is_what_was_proven(build):
    given = line(model=build)
    assert_same_when_pasted(given, normalised(Facts(given)), steps=3)


def test_unknown_kinds_are_refused():
    with pytest.raises(GraddoctorError, match="'rms', 'group', got 'instance'"):
        normalised(Facts(line(model=mlp)), "instance")


# --- post-norm transformers


def encoder(layers=6, *, norm_first=False):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.out = nn.Linear(1, 8), nn.Linear(8, 2)
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
            self.stack = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        def forward(self, x):
            return self.out(self.stack(self.into(x[..., None])).mean(1))

    return Reader


def test_the_right_cure_of_deep_post_norm_without_warm_up():
    x, _ = data(256)
    batches = list(zip(x.split(32), (x.sum(1) > 0).long().split(32), strict=True))
    given = recipe(
        model=encoder(), batches=batches, epochs=10, optimizer=lambda m: torch.optim.Adam(m.parameters(), 0.02)
    )
    remedy = pre_layernorm(Facts(given))
    seeds = range(4)  # any one of them may get through
    plain, cured = (np.mean([train(r.with_(seed=n)).losses[-8:] for n in seeds]) for r in (given, remedy(given)))
    assert cured < 0.35 < plain
    assert remedy.causes == (Cause.NORMALIZATION,)
    assert remedy.modules == tuple(f"stack.layers.{k}" for k in range(6))


@pytest.mark.parametrize("build", [mlp, encoder(2, norm_first=True)])
def test_where_no_norm_comes_after_an_addition_none_is_moved(build):
    given = line(model=build, loss=lambda m, b: functional.cross_entropy(m(b[0]), b[1]))
    assert pre_layernorm(Facts(given)) is None


def test_moved_norms_are_pasted_as_proven():
    given = line(model=encoder(2))
    assert_same_when_pasted(given, pre_layernorm(Facts(given)), steps=3)
