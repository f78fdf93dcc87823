"""The penalty on gradients that fade over time: a fading memory is cured, and Ω is what a slow loop makes of it."""

import copy

import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pasted import assert_same_when_pasted
from recurrent_networks import Layer, Packed, Spelled, Stepped, remembering
from torch import nn

from graddoctor.remedies.edit import edited
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.state_norms import change_of_norms, keep_state_gradients, recorded_calls
from graddoctor.remedies.state_norms import state_gradients_kept
from graddoctor.terms import Cause
from graddoctor.train import train


def fading(nonlinearity="tanh", scale=0.5, **options):
    """An RNN whose states forget."""
    network = Layer(nonlinearity=nonlinearity, **options)
    for name, weight in network.cell.named_parameters():
        if name.startswith("weight_hh"):
            weight.data.mul_(scale)
    return network


def final(recipe):
    return float(train(recipe).losses[-10:].mean())


@pytest.mark.parametrize("seed", [10, 11])
def test_a_memory_that_fades_is_cured(seed):
    given = remembering(lambda: fading(scale=0.25), steps=20, epochs=16, lr=0.003, seed=seed)
    remedy = state_gradients_kept(Facts(given))
    assert final(given) > 1.2
    assert final(edited(given, remedy.edits[1:])) > 1.2  # not by the clip
    assert final(remedy(given)) < 0.7


def test_a_relu_that_fades_is_helped():
    given = remembering(lambda: fading("relu"), steps=20, epochs=16, lr=0.003, seed=10)
    assert final(given) > 1.2
    assert final(state_gradients_kept(Facts(given))(given)) < 1.0


@pytest.mark.parametrize("layers", [1, 2])
def test_the_remedy_can_be_pasted(layers):
    given = remembering(lambda: fading(num_layers=layers), epochs=1)
    remedy = state_gradients_kept(Facts(given))
    assert remedy.name == "penalty 1 on gradients that fade or grow over time"
    assert (remedy.causes, remedy.modules) == ((Cause.RECURRENCE,), ("cell",))
    assert [edit.part for edit in remedy.edits] == ["loss", "clip"]
    assert_same_when_pasted(given, remedy, steps=3)


# Ω against a slow loop


def cell_of(layer, k):
    """The step of layer k, as a function of its recurrent weight."""
    activate = torch.relu if layer.nonlinearity == "relu" else torch.tanh
    shift = getattr(layer, f"bias_ih_l{k}") + getattr(layer, f"bias_hh_l{k}") if layer.bias else 0.0
    entering = getattr(layer, f"weight_ih_l{k}")
    return lambda weight, x, state: activate(entering @ x + weight @ state + shift)


def slow_states(layer, x, start):
    """States [layer][step] of one sample, and the inputs [layer][step] that they were made of."""
    states, inputs = [], [list(x)]
    for k in range(layer.num_layers):
        step, state, made = cell_of(layer, k), start[k], []
        for entering in inputs[k]:
            state = step(getattr(layer, f"weight_hh_l{k}"), entering, state)
            made.append(state)
        states.append(made)
        inputs.append(made)
    return states, inputs


def slow_omega(layer, samples, starts, loss_of, shift=None):
    """Ω by jacobians of autograd, step by step; `shift` moves the recurrent weights, with states and δ held fixed."""
    runs = [slow_states(layer, x, start) for x, start in zip(samples, starts, strict=True)]
    outputs = torch.stack([torch.stack(states[-1]) for states, _ in runs])
    lasts = torch.stack([torch.stack([made[-1] for made in states]) for states, _ in runs])
    loss, total = loss_of(outputs, lasts), 0.0
    for states, inputs in runs:
        for k, made in enumerate(states):
            deltas = torch.autograd.grad(loss, made, retain_graph=True)
            step, weight = cell_of(layer, k), getattr(layer, f"weight_hh_l{k}").detach()
            for n in range(len(made) - 1):
                jacobian = slopes_at(step, weight, inputs[k][n + 1].detach(), made[n].detach(), (shift or {}).get(k))
                total += float(((deltas[n + 1] @ jacobian).norm() / deltas[n + 1].norm() - 1) ** 2)
    return total / len(runs)


def slopes_at(step, weight, x, state, shift):
    """The jacobian of a step by the state: diag(slope) W, where a shift moves W but not the slope."""
    jacobian = torch.autograd.functional.jacobian(lambda s: step(weight, x, s), state)
    if shift is None:
        return jacobian
    by_bias = torch.autograd.functional.jacobian(lambda b: step(weight, x + 0 * x, state + b), torch.zeros_like(state))
    slope = by_bias @ torch.linalg.inv(weight)
    return slope @ (weight + shift)


def problem(layers=1, nonlinearity="tanh", *, bias=True, batch_first=False):
    """A layer in double precision, samples, and a loss of all its outputs and its last states."""
    torch.manual_seed(3)
    layer = nn.RNN(2, 4, layers, nonlinearity=nonlinearity, bias=bias, batch_first=batch_first).double()
    x = torch.randn(3, 6, 2, dtype=torch.float64)
    start = torch.randn(3, layers, 4, dtype=torch.float64)
    mask = torch.randn(6, 4, dtype=torch.float64)

    def loss_of(outputs, lasts):
        return (mask * outputs).sum((1, 2)).exp().sum() / 10 + lasts.pow(3).sum()

    return layer, x, start, loss_of


def wrapped(layer, x, start, loss_of):
    """The same as a loss of a network and a batch."""

    def loss(model, batch):
        given = batch if model.batch_first else batch.transpose(0, 1)
        outputs, lasts = model(given, hx=start.transpose(0, 1).contiguous())
        return loss_of(outputs if model.batch_first else outputs.transpose(0, 1), lasts.transpose(0, 1))

    return loss


def omega(layer, x, loss):
    with recorded_calls(layer, [""]) as calls:
        value = loss(layer, x)
    return change_of_norms(value, calls)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"batch_first": True}])
def test_omega_is_that_of_a_slow_loop(layers, nonlinearity, options):
    layer, x, start, loss_of = problem(layers, nonlinearity, **options)
    fast = float(omega(layer, x, wrapped(layer, x, start, loss_of)).detach())
    assert fast == pytest.approx(slow_omega(layer, x, start, loss_of), rel=1e-9)
    assert fast > 0.1


@pytest.mark.parametrize("layers", [1, 2])
def test_its_gradient_is_that_of_differences_with_states_and_deltas_fixed(layers):
    layer, x, start, loss_of = problem(layers)
    weights = [getattr(layer, f"weight_hh_l{k}") for k in range(layers)]
    slopes = torch.autograd.grad(omega(layer, x, wrapped(layer, x, start, loss_of)), weights)
    small = 1e-5
    for k, weight in enumerate(weights):
        for i, j in ((0, 0), (1, 3), (2, 1)):
            step = torch.zeros_like(weight)
            step[i, j] = small
            up, down = (slow_omega(layer, x, start, loss_of, {k: sign * step}) for sign in (1, -1))
            assert float(slopes[k][i, j]) == pytest.approx((up - down) / (2 * small), rel=1e-5, abs=1e-8)


def test_it_reaches_the_recurrent_weights_alone_and_leaves_the_value():
    layer, x, start, loss_of = problem(2)
    loss = wrapped(layer, x, start, loss_of)
    plain = loss(layer, x)
    treated = keep_state_gradients(layer, x, loss, names=[""], strength=3.0)
    assert float(treated.detach()) == float(plain.detach())
    names, parameters = zip(*layer.named_parameters(), strict=True)
    added = torch.autograd.grad(omega(layer, x, loss), parameters, allow_unused=True)
    pairs = zip(torch.autograd.grad(plain, parameters), torch.autograd.grad(treated, parameters), strict=True)
    for name, (before, after), omega_alone in zip(names, pairs, added, strict=True):
        assert (omega_alone is not None) is name.startswith("weight_hh")
        expected = before if omega_alone is None else before + 3.0 * omega_alone
        assert torch.allclose(after, expected, atol=1e-10)
    assert not layer._forward_hooks


def test_a_sequence_without_batch_and_a_layer_that_is_called_twice():
    layer, x, start, loss_of = problem(2)
    alone = omega(layer, x[0], lambda model, one: loss_of(model(one, start[0])[0][None], torch.zeros(1)))
    unused = slow_omega(layer, x[:1], start[:1], lambda outputs, _: loss_of(outputs, torch.zeros(1)))
    assert float(alone.detach()) == pytest.approx(unused, rel=1e-9)
    halves = omega(layer, x, lambda model, all_: twice(model, all_.transpose(0, 1)).sum())
    whole = omega(layer, x, lambda model, all_: model(all_.transpose(0, 1))[0][-1].sum())
    assert 0 < float(halves.detach()) < float(whole.detach())  # the step between the calls is not seen


def twice(model, x):
    _, state = model(x[:3])
    return model(x[3:], state)[0][-1]


@settings(max_examples=20, deadline=None)
@for_all(st.floats(1e-12, 1e12), st.sampled_from([1, 2]))
def test_omega_does_not_depend_on_the_scale_of_the_loss(factor, layers):
    layer, x, start, loss_of = problem(layers)
    loss = wrapped(layer, x, start, loss_of)
    expected = float(omega(layer, x, loss).detach())
    assert float(omega(layer, x, lambda m, b: factor * loss(m, b)).detach()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("layers", [1, 2])
def test_sixteen_bits_will_do(layers):
    given = remembering(lambda: fading(num_layers=layers), epochs=1)
    half = given.with_(precision=torch.bfloat16)
    losses = [train(state_gradients_kept(Facts(one))(one)).losses for one in (given, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_what_has_no_gradient_is_let_be():
    layer, x, start, loss_of = problem()
    loss = wrapped(layer, x, start, loss_of)
    with torch.no_grad():
        assert not keep_state_gradients(layer, x, loss, names=[""], strength=1.0).requires_grad
    bystander = nn.Parameter(torch.ones(()))
    apart = omega(layer, x, lambda model, all_: bystander + 0 * model(all_)[0].detach().sum())
    zero = omega(layer, x, lambda model, all_: 0 * model(all_)[0].sum())
    assert float(apart.detach()) == float(zero.detach()) == 0.0
    assert all(p.isfinite().all() for p in torch.autograd.grad(zero, layer.weight_hh_l0))
    judged = copy.deepcopy(layer).eval()
    slope = torch.autograd.grad(keep_state_gradients(judged, x, loss, names=[""], strength=1.0), judged.weight_hh_l0)
    assert torch.equal(slope[0], torch.autograd.grad(loss(judged, x), judged.weight_hh_l0)[0])


# Where it is proposed


class Steady(Layer):
    """A linear regime whose steps keep every norm."""

    def __init__(self):
        super().__init__()
        nn.init.orthogonal_(self.cell.weight_hh_l0)
        nn.init.normal_(self.cell.weight_ih_l0, std=0.001)
        for bias in (self.cell.bias_ih_l0, self.cell.bias_hh_l0):
            nn.init.zeros_(bias)


class Frozen(Layer):
    """Its recurrent weights are not trained."""

    def __init__(self):
        super().__init__()
        self.cell.weight_hh_l0.requires_grad_(False)


class StepByStep(Layer):
    """A layer that is called for one step at a time: nothing is between the states of a call."""

    def forward(self, x):
        state = None
        for x_t in x.split(1, 1):
            output, state = self.cell(x_t, state)
        return self.head(output[:, -1])


@pytest.mark.parametrize(
    ("build", "steps"),
    [
        (Steady, 24),
        (Frozen, 24),
        (StepByStep, 24),
        (Layer, 7),
        (lambda: Layer(nn.LSTM), 24),
        (lambda: Layer(nn.GRU), 24),
        (lambda: Layer(bidirectional=True), 24),
        (lambda: Layer(num_layers=2, dropout=0.5), 24),
        (Packed, 24),
        (Stepped, 24),
        (Spelled, 24),
    ],
)
def test_other_networks_are_left_alone(build, steps):
    assert state_gradients_kept(Facts(remembering(build, epochs=1, steps=steps))) is None
    assert state_gradients_kept(Facts(remembering(Layer, epochs=1))) is not None


def test_looking_leaves_the_network_as_it_was():
    facts = Facts(remembering(epochs=1))
    before, random = copy.deepcopy(facts.model.state_dict()), torch.get_rng_state()
    state_gradients_kept(facts)
    assert all(torch.equal(value, before[name]) for name, value in facts.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in facts.model.parameters())
    assert not facts.model.cell._forward_hooks
