"""More bits, a larger range, a scaled gradient, master weights: each does that, and nothing else changes by a bit."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from graddoctor.remedies.plain.loss_scale import UnscaleHook, scaled_loss
from graddoctor.remedies.plain.master_weights import keep_master_weights, master_weights_loss
from graddoctor.remedies.plain.precision import (
    autocast_loss,
    bfloat16_loss,
    float32_forward,
    float32_loss,
    widen_weights,
    widened,
)

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 2


def net(dtype=torch.float32):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))
    return body.to(dtype)


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def gradients(model, compute):
    torch.manual_seed(1)
    compute(model, (X, Y)).backward()
    return [p.grad for p in model.parameters()]


IDENTITIES = {
    "float32": lambda m, b: float32_loss(m, b, loss),
    "bfloat16 for float16": lambda m, b: bfloat16_loss(m, b, loss),
    "scaled": lambda m, b: scaled_loss(m, b, loss, scale=2.0**10),
}


@pytest.mark.parametrize("compute", IDENTITIES.values(), ids=IDENTITIES.keys())
@given(st.integers(0, 2**31))
def test_a_float32_loss_is_the_same_to_the_last_bit(compute, seed):
    values = []
    for model, function in ((net(), compute), (net(), loss)):
        torch.manual_seed(seed)
        values.append(function(model, (X, Y)))
        values[-1].backward()
        values[-1] = (values[-1].detach(), *(p.grad for p in model.parameters()), *model.buffers())
    assert all(torch.equal(a, b) for a, b in zip(*values, strict=True))


MODELS = {
    "weights widened": widen_weights,
    "forward in float32": float32_forward,
    "master weights": keep_master_weights,
    "all": lambda m: keep_master_weights(float32_forward(widen_weights(m))),
}


@pytest.mark.parametrize("treat", MODELS.values(), ids=MODELS.keys())
def test_a_float32_network_stays_as_it_is(treat):
    plain, treated = net(), treat(net())
    assert list(plain.state_dict()) == list(treated.state_dict())
    treated.load_state_dict(plain.state_dict())
    for mode in (True, False):
        assert torch.equal(answer(treated.train(mode)), answer(plain.train(mode)))
    for copied in (copy.deepcopy(treated), pickle.loads(pickle.dumps(treated))):  # noqa: S301 - our own
        assert torch.equal(answer(copied.eval()), answer(plain.eval()))


def answer(model):
    torch.manual_seed(2)
    with torch.no_grad():
        return model(X)


@pytest.mark.parametrize("treat", MODELS.values(), ids=MODELS.keys())
def test_a_forward_that_raises_leaves_nothing_behind(treat):
    model = treat(net().eval())
    with pytest.raises(RuntimeError, match="shape"):
        model(X[:, :3])
    assert X.half().dtype == torch.float16
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    assert torch.equal(answer(model), answer(net().eval()))


# float32


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net(torch.float16)

    def forward(self, x):
        return self.net(x.half()).float()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_weights_are_widened_with_names_ties_and_flags(dtype):
    model = net(dtype)
    model[4].bias.requires_grad_(False)
    model.twin = model[0]
    treated = widen_weights(copy.deepcopy(model))
    assert {t.dtype for t in treated.state_dict().values() if t.is_floating_point()} == {torch.float32}
    assert treated.twin.weight is treated[0].weight
    assert [p.requires_grad for p in treated.parameters()] == [p.requires_grad for p in model.parameters()]
    assert treated.load_state_dict(model.state_dict())


def test_low_inputs_are_widened_wherever_they_are():
    seen = []
    model = widen_weights(nn.Identity())
    model.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    model({"x": (X.half(), [X.bfloat16(), Y]), "name": "a"})
    assert seen[0]["x"][0].dtype == seen[0]["x"][1][0].dtype == torch.float32
    assert seen[0]["x"][1][1] is Y
    assert widened(Y) is Y


def test_casts_by_hand_become_float32_at_inference_too():
    treated = float32_forward(widen_weights(ByHand())).eval()
    plain = net(torch.float16).float().eval()
    assert torch.equal(answer(treated), answer(plain))
    assert X.half().dtype == torch.float16
    inner = copy.deepcopy(treated)
    assert torch.equal(answer(inner), answer(plain))


# bfloat16


def test_bfloat16_stands_in_for_float16_only():
    types = []

    def casting(model, batch):
        types.extend([X.half().dtype, X.bfloat16().dtype, X.float().dtype, X.double().dtype])
        with torch.autocast("cpu", torch.float16):
            types.append((X @ X.T).dtype)
        return loss(model, batch)

    bfloat16_loss(net(), (X, Y), casting)
    assert types == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float64, torch.bfloat16]
    assert X.half().dtype == torch.float16


def test_autocast_moves_into_the_loss():
    with torch.autocast("cpu", torch.bfloat16):
        expected = gradients(net(), loss)
    mine = gradients(net(), lambda m, b: autocast_loss(m, b, loss, dtype=torch.bfloat16))
    assert all(torch.equal(a, b) for a, b in zip(mine, expected, strict=True))
    assert not torch.equal(mine[0], gradients(net(), loss)[0])


# Gradient scale


class RoundsBack(torch.autograd.Function):
    """Passes through half precision on the way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.half().float()


def tiny(model, batch):
    return 1e-9 * functional.cross_entropy(RoundsBack.apply(model(batch[0])), batch[1])


def tiny_in_full(model, batch):
    return 1e-9 * loss(model, batch)


def test_a_scaled_gradient_passes_where_it_would_round_to_zero():
    assert not any(g.any() for g in gradients(net(), tiny))
    mine = gradients(net(), lambda m, b: scaled_loss(m, b, tiny, scale=2.0**30))
    for got, twin in zip(mine, gradients(net(), tiny_in_full), strict=True):
        assert torch.allclose(got, twin, rtol=2e-2, atol=1e-13)


def test_a_gradient_that_overflows_is_dropped():
    mine = gradients(net(), lambda m, b: scaled_loss(m, b, tiny, scale=2.0**60))
    assert not any(g.any() for g in mine)


def test_hooks_that_were_there_see_the_gradient_of_the_loss_itself():
    def clamped():
        model = net()
        model[0].weight.register_hook(lambda g: g.clamp(-0.01, 0.01))
        return model

    mine = gradients(clamped(), lambda m, b: scaled_loss(m, b, loss, scale=2.0**10))
    assert torch.equal(mine[0], gradients(clamped(), loss)[0])
    assert float(mine[0].abs().max()) == pytest.approx(0.01)


def test_hooks_are_put_on_once_and_on_copies_too():
    def compute(model, batch):
        return scaled_loss(model, batch, loss, scale=2.0**10)

    model = net()
    once = [g.clone() for g in gradients(model, compute)]
    model.zero_grad()
    model.load_state_dict(net().state_dict())
    again = gradients(model, compute)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert sum(isinstance(h, UnscaleHook) for h in model[0].weight._backward_hooks.values()) == 1
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(net()))):  # noqa: S301 - our own
        copied.zero_grad()
        copied.load_state_dict(net().state_dict())
        assert torch.equal(gradients(copied, compute)[0], gradients(net(), loss)[0])


def test_frozen_parameters_stay_frozen():
    model = net()
    model[0].requires_grad_(False)
    assert gradients(model, lambda m, b: scaled_loss(m, b, loss, scale=2.0))[0] is None


# Master weights


def low_loss(model, batch):
    return functional.cross_entropy(model(batch[0].to(torch.bfloat16)).float(), batch[1])


def test_the_loss_and_the_answers_are_those_of_the_low_weights():
    plain, treated = net(torch.bfloat16), keep_master_weights(net(torch.bfloat16))
    assert {p.dtype for p in treated.parameters()} == {torch.float32}
    assert torch.equal(treated.eval()(X.bfloat16()), plain.eval()(X.bfloat16()))
    values = []
    for model, compute in (
        (plain.train(), low_loss),
        (treated.train(), lambda m, b: master_weights_loss(m, b, low_loss)),
    ):
        torch.manual_seed(1)
        values.append(compute(model, (X, Y)))
        values[-1].backward()
    assert torch.equal(*(value.detach() for value in values))
    for low, master in zip(plain.parameters(), treated.parameters(), strict=True):
        assert master.grad.dtype == torch.float32
        assert torch.equal(low.grad.float(), master.grad)


def test_the_loss_sees_low_weights_and_everybody_else_their_masters():
    seen = []

    def looks(model, batch):
        seen.extend(p.dtype for p in model.parameters())
        return low_loss(model, batch)

    model = keep_master_weights(net(torch.bfloat16))
    before = list(model.parameters())
    master_weights_loss(model, (X, Y), looks)
    assert set(seen) == {torch.bfloat16}
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))


def test_small_steps_add_up():
    moved = []
    for model, compute in (
        (net(torch.bfloat16), low_loss),
        (keep_master_weights(net(torch.bfloat16)), lambda m, b: master_weights_loss(m, b, low_loss)),
    ):
        start = model[4].weight.detach().float().clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
        for _ in range(5):
            optimizer.zero_grad()
            compute(model, (X, Y)).backward()
            optimizer.step()
        moved.append(float((model[4].weight.detach().float() - start).norm()))
    assert moved[0] < 0.01 * moved[1]


def test_tied_low_weights_stay_tied_and_a_loss_that_raises_puts_them_back():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).bfloat16()
    model[1].weight = model[0].weight
    keep_master_weights(model)
    assert model[1].weight is model[0].weight

    def fails(model, batch):
        assert model[1].weight is model[0].weight
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        master_weights_loss(model, X, fails)
    assert model[1].weight is model[0].weight
    assert model[0].weight.dtype == torch.float32
