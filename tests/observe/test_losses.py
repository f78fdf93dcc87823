"""The terms of a loss and their shares, beside a plain backward pass for each of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_networks import NETWORKS, Tower, mlp, two_losses
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from graddoctor.observe import probe
from graddoctor.observe.losses import MOST


class Heads(nn.Module):
    """Three heads on one trunk."""

    def __init__(self):
        super().__init__()
        self.first, self.trunk = nn.Linear(6, 8), nn.Linear(8, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 2) for _ in range(3))

    def forward(self, x):
        h = torch.tanh(self.trunk(torch.tanh(self.first(x))))
        return [head(h) for head in self.heads]


def heads(seed=0):
    torch.manual_seed(seed)
    return Heads(), torch.randn(12, 6)


def numbers(outputs):
    a, b, c = outputs
    return a.square().mean(), b.abs().mean(), torch.sigmoid(c).mean()


def told(model, x, loss):
    return probe(model, lambda net, batch: loss(*numbers(net(batch))), [x]).budget.losses


def expected(model, x, factors):
    """Shares in float64, by one plain backward pass for each term."""
    model = model.double()
    first = model.first(x.double())
    h = torch.tanh(model.trunk(torch.tanh(first)))
    terms = numbers([head(h) for head in model.heads])
    pulled = [
        factor * torch.autograd.grad(term, first, retain_graph=True)[0]
        for term, factor in zip(terms, factors, strict=True)
        if factor
    ]
    whole = sum(pulled)
    return [float((one * whole).sum() / whole.square().sum()) for one in pulled]


SUMS = {
    "plus": (lambda a, b, c: a + b + c, (1, 1, 1)),
    "nested": (lambda a, b, c: a + 0.3 * (b + 2 * c), (1, 0.3, 0.6)),
    "minus": (lambda a, b, c: a - b - (-c), (1, -1, 1)),
    "from a number": (lambda a, b, _: 3 - (a + b), (-1, -1, 0)),
    "divided and scaled": (lambda a, b, _: (a / 2 + b) * 65536.0 / 4, (0.5, 1, 0)),
    "sum of a list": (lambda a, b, c: sum([a, b, c]), (1, 1, 1)),
    "alpha": (lambda a, b, _: torch.add(a, b, alpha=0.1), (1, 0.1, 0)),
    "stacked": (lambda a, b, c: torch.stack([a, b, c]).mean(), (1, 1, 1)),
    "stacked, weighed": (lambda a, b, c: (torch.stack([a, b, c]) * torch.tensor([1.0, 2.0, 3.0])).sum(), (1, 2, 3)),
    "concatenated": (lambda a, b, c: torch.cat([a[None], b[None], c.reshape(1)]).sum(), (1, 1, 1)),
    "reshaped": (lambda a, b, _: (a + b).reshape(1).clone(), (1, 1, 0)),
    "twice": (lambda a, b, _: a + 0.5 * a + b, (1.5, 1, 0)),
    "learned weight": (lambda a, b, _: a + nn.Parameter(torch.tensor(0.7)) * b, (1, 0.7, 0)),
    "with what no sample reaches": (lambda a, b, _: a + b + nn.Parameter(torch.ones(3)).square().sum(), (1, 1, 0)),
}


@pytest.mark.parametrize("name", SUMS)
def test_shares_are_those_of_one_backward_pass_for_each_term(name):
    loss, factors = SUMS[name]
    model, x = heads()
    found = told(model, x, loss)
    assert [one.share for one in found] == pytest.approx(expected(model, x, factors), abs=1e-5)
    assert math.fsum(one.share for one in found) == pytest.approx(1, abs=1e-12)
    assert [one.modules for one in found] == [(f"heads.{i}",) for i, factor in enumerate(factors) if factor]


SINGLE = {
    "one": lambda a, *_: a,
    "scaled": lambda a, *_: 0.3 * a / 7 + 2,
    "product": lambda a, b, _: a * b,
    "root of a sum": lambda a, b, c: (a + b + c).sqrt(),
    "too many": lambda a, b, c: sum(f(x) for x in (a, b, c) for f in (torch.exp, torch.sin, torch.cos)),
    "the same twice": lambda a, *_: a + a,
    "a penalty": lambda a, *_: a + nn.Parameter(torch.ones(3)).square().sum(),
}


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_no_sum_of_terms_has_none(name):
    assert told(*heads(), SINGLE[name]) == ()
    assert MOST + 1 == 3 * 3  # of the terms that are too many


def test_a_sum_over_samples_is_one_term():
    model, x = heads()
    budget = probe(model, lambda net, batch: (net(batch)[0] + net(batch)[1]).square().mean(), [x]).budget
    assert budget.losses == ()


def test_a_term_that_another_one_reads_is_not_counted_twice():
    model, x = heads()
    found = told(model, x, lambda a, b, _: a + a * b)
    model = model.double()
    first = model.first(x.double())
    h = torch.tanh(model.trunk(torch.tanh(first)))
    a, b, _ = numbers([head(h) for head in model.heads])
    own, product = (torch.autograd.grad(term, first, retain_graph=True)[0] for term in (a, a * b))
    whole = own + product
    shares = [float((one * whole).sum() / whole.square().sum()) for one in (own, product)]
    assert [one.share for one in found] == pytest.approx(shares, abs=1e-5)


def test_a_term_against_the_others_has_a_negative_share():
    model, x = heads()
    found = told(model, x, lambda a, _b, c: a - 0.2 * a.square() + 0 * c)
    assert found[1].share < 0 < found[0].share
    assert found[2].share == 0


def test_terms_are_named_by_what_computes_them():
    model, x = heads()
    y, z = torch.randint(0, 2, (12,)), torch.randn(12, 2)

    def loss(net, batch):
        a, b, c = net(batch)
        return (
            functional.cross_entropy(a, y)
            + 0.5 * functional.mse_loss(b, z)
            + functional.cross_entropy(c, y)
            + 0.1 * a.square().mean()
            + b.mean()
        )

    names = [one.name for one in probe(model, loss, [x]).budget.losses]
    assert names == ["cross_entropy", "mse_loss", "cross_entropy (2)", "pow", "mean"]


def test_terms_that_modules_left_behind():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            h = torch.tanh(self.linear(x))
            self.punished = h.square().mean()
            return h

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), Gate(), nn.Linear(8, 2))
    found = probe(model, lambda net, x: net(x).abs().mean() + 0.1 * net[1].punished, [torch.randn(4, 6)]).budget.losses
    assert [(one.name, one.modules) for one in found] == [("abs", ("2",)), ("pow", ("1",))]


def test_an_early_end_of_several_tensors():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = mlp(2, start=6), mlp(2, start=6)

        def forward(self, x):
            return self.left(x), self.right(x)

    torch.manual_seed(0)
    model, x = Two(), torch.randn(10, 6)
    found = probe(model, lambda net, batch: sum(out.square().mean() for out in net(batch)), [x]).budget.losses
    squares = []
    for tower in (model.left, model.right):
        first = tower[0](x)
        squares.append(float(torch.autograd.grad(tower[1:](first).square().mean(), first)[0].double().square().sum()))
    assert [one.share for one in found] == pytest.approx([square / sum(squares) for square in squares], rel=1e-5)
    assert [one.modules for one in found] == [("left.2",), ("right.2",)]


def test_one_layer_has_shares_too():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 2), torch.randn(5, 3)

    def loss(net, batch):
        y = net(batch)
        return y.square().mean() + y.abs().mean()

    budget = probe(layer, loss, [x]).budget
    y = layer(x).double().detach()
    square, absolute = y / 5, y.sign() / 10
    share = float((square * (square + absolute)).sum() / (square + absolute).square().sum())
    assert budget.rows == ()
    assert [one.share for one in budget.losses] == pytest.approx([share, 1 - share], abs=1e-6)


@pytest.mark.parametrize("factor", [0.0, math.nan, math.inf])
def test_without_a_gradient_there_is_nothing_to_share(factor):
    model, x = heads()
    look = probe(model, lambda net, batch: sum(factor * term for term in numbers(net(batch))), [x])
    assert look.budget.losses == ()
    assert look.trouble == ()


def test_checkpoints_run_once_more():
    class Checkpointed(Heads):
        def forward(self, x):
            h = checkpoint(lambda x: torch.tanh(self.trunk(torch.tanh(self.first(x)))), x, use_reentrant=False)
            return [head(h) for head in self.heads]

    plain, x = heads()
    model = Checkpointed()
    model.load_state_dict(plain.state_dict())
    shares = [one.share for one in told(model, x, sum_of)]
    assert shares == pytest.approx([one.share for one in told(plain, x, sum_of)], abs=1e-6)


def sum_of(a, b, c):
    return a + 2 * b + 3 * c


class Once(torch.autograd.Function):
    """Gives its memory back in backward, as some users' functions do."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = x
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        del ctx.kept
        return gradient * 2


class Noisy(torch.autograd.Function):
    """Gives another gradient each time."""

    @staticmethod
    def forward(ctx, x):
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        del ctx
        return gradient * torch.rand(())


@pytest.mark.parametrize("function", [Once, Noisy])
def test_backward_code_that_cannot_run_twice_costs_the_shares_only(function):
    model, x = heads()
    look = probe(model, lambda net, batch: sum_of(*numbers([function.apply(h) for h in net(batch)])), [x])
    assert look.budget.losses == ()
    assert look.budget.rows
    assert "the loss has 3 terms" in look.trouble[0]


def test_nothing_is_disturbed():
    torch.manual_seed(0)
    model, _, batch = NETWORKS["auxiliary"]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    called = []
    model.side.weight.register_post_accumulate_grad_hook(lambda _: called.append(1))
    budget = probe(model, two_losses, [batch]).budget
    assert len(budget.losses) == 2
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not called


def test_the_rows_are_those_of_the_whole_loss():
    torch.manual_seed(0)
    model, _, batch = NETWORKS["auxiliary"]()
    summed = probe(model, two_losses, [batch]).budget
    hidden = probe(model, lambda net, b: two_losses(net, b).square().sqrt(), [batch]).budget  # one term, same gradient
    assert hidden.losses == ()
    assert [row.decades for row in summed.rows] == pytest.approx([row.decades for row in hidden.rows], abs=1e-6)


def test_half_types():
    torch.manual_seed(0)
    model, x = Heads().bfloat16(), torch.randn(12, 6).bfloat16()
    found = told(model, x, sum_of)
    assert math.fsum(one.share for one in found) == pytest.approx(1, abs=1e-12)


def test_a_network_that_runs_twice():
    torch.manual_seed(0)
    model, x = Tower(), torch.randn(4, 16)
    losses = probe(model, lambda net, b: net(b).square().mean() + net(-b).abs().mean(), [x]).budget.losses
    assert [one.name for one in losses] == ["pow", "abs"]
    assert math.fsum(one.share for one in losses) == pytest.approx(1)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), st.floats(1e-6, 1e6), st.integers(0, 3))
def test_shares_follow_the_factors_and_not_the_scale(factors, scale, seed):
    model, x = heads(seed)
    a, b, c = factors

    def shares(by):
        return [one.share for one in told(model, x, lambda i, j, k: by * (a * i + b * j + c * k))]

    assert shares(scale) == pytest.approx(shares(1.0), abs=1e-4)
    assert shares(1.0) == pytest.approx(expected(model, x, factors), abs=1e-4)
