import copy
import math
import random
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from probe_networks import NETWORKS, Gpt, Vgg, classify, images, mlp, next_word, tokens, vectors
from torch import nn
from torch.nn import functional

from graddoctor.errors import RecipeError
from graddoctor.observe import probe
from graddoctor.observe._parameters import identical


def autocast(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return next_word(model, batch)


def dropout():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))


RUNS = {
    "dropout": (dropout, classify, vectors),
    "batch norm": (Vgg, classify, images),
    "gpt": (Gpt, next_word, tokens),
    "autocast": (Gpt, autocast, tokens),
    "re-entrant": (lambda: Gpt(checkpointed=True), next_word, tokens),
}


def train(build, loss, make, *, probed):
    torch.manual_seed(0)
    model, batches = build(), [make() for _ in range(6)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step, batch in enumerate(batches):
        if probed:
            probe(model, loss, batches[step:], step=step)
        optimizer.zero_grad()
        loss(model, batch).backward()
        if probed:  # also between backward and step, where gradients are at stake
            probe(model, loss, [batch])
        optimizer.step()
    return [*model.parameters(), *model.buffers(), torch.rand(3)]


@pytest.mark.parametrize("name", RUNS)
def test_training_is_bit_identical_with_probes_in_between(name):
    bare, observed = train(*RUNS[name], probed=False), train(*RUNS[name], probed=True)
    assert all(torch.equal(a, b) for a, b in zip(bare, observed, strict=True))


def states():
    return (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


class Careless(nn.Module):
    """Changes about everything that a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.zeros(()))
        self.calls, self.seen, self.memory = 0, [], torch.zeros(4)
        self.generator = torch.Generator()

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.mean().item())
        self.memory.add_(1)
        self.last = x
        self.count = self.count + 1
        with torch.no_grad():
            self.linear.weight.clamp_(-0.1, 0.1)
            torch.add(self.mean, 1, out=self.mean)
        noise = torch.rand(4, generator=self.generator) + random.random() + np.random.rand()  # noqa: NPY002, S311
        x.mul_(2)
        self.eval()
        return self.linear(x) + noise


def test_nothing_is_left_changed():
    model, batch = Careless(), vectors()
    before, data = copy.deepcopy(model), batch[0].clone()
    grads = [torch.randn_like(p) for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), grads, strict=True):
        parameter.grad = gradient
    kept, rng, count, generator = [g.clone() for g in grads], states(), model.count, model.generator.get_state()
    probe(model, classify, [batch, batch])
    assert states() == rng
    assert torch.equal(batch[0], data)
    assert model.count is count
    assert model.training
    assert model.linear.training
    assert (model.calls, model.seen, hasattr(model, "last")) == (0, [], False)
    assert torch.equal(model.memory, before.memory)
    assert torch.equal(model.generator.get_state(), generator)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    )
    for parameter, gradient, copied in zip(model.parameters(), grads, kept, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, copied)


def test_hooks_are_gone_after_an_exception():
    def broken(model, batch):
        model(batch[0])
        raise ValueError("no")

    model = mlp()
    with pytest.raises(ValueError, match="no"):
        probe(model, broken, [vectors()])
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
    assert not model._forward_pre_hooks
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_hooks_of_the_user_stay():
    model, calls = mlp(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    probe(model, classify, [vectors()])
    model(vectors()[0])
    assert calls == [1, 1]


def test_compiled_models_are_looked_at_as_they_were_written():
    model = mlp(3)
    plain = probe(model, classify, [batch := vectors()])
    compiled = probe(torch.compile(model, backend="eager"), classify, [batch])
    assert [row.decades for row in compiled.budget.rows] == [row.decades for row in plain.budget.rows]
    assert compiled.budget.rows[0].name == "_orig_mod.0"


@dataclass(slots=True)
class Bag:
    x: torch.Tensor
    y: torch.Tensor
    notes: list


@pytest.mark.parametrize(
    "pack",
    [
        lambda x, y: Bag(x, y, ["a", 1, None]),
        lambda x, y: SimpleNamespace(x=x, y=y),
        lambda x, y: SimpleNamespace(x=x.to_sparse(), y=y),
    ],
)
def test_batches_of_any_kind(pack):
    torch.manual_seed(0)
    look = probe(mlp(), lambda m, b: classify(m, (b.x.to_dense(), b.y)), [pack(*vectors())])
    assert look.trouble == ()
    assert [row.name for row in look.budget.rows] == ["0", "2", "4", "6", "8"]
    assert [(r.role, r.shape) for r in look.inputs] == [("input", (8, 16))]


def test_sparse_embeddings_that_renormalise_their_weight():
    model = nn.Sequential(nn.Embedding(20, 8, sparse=True, max_norm=0.5), nn.Flatten(), nn.Linear(48, 4))
    before = model[0].weight.clone()
    look = probe(model, lambda m, b: functional.cross_entropy(m(b[0]), b[1][:, 0] % 4), [tokens()])
    assert torch.equal(model[0].weight, before)
    assert {r.name: r.gradient for r in look.parameters}["0.weight"] > 0


def test_inside_autocast_the_next_step_still_has_gradients():
    torch.manual_seed(0)
    model, batch = mlp(3), vectors()
    with torch.autocast("cpu", torch.bfloat16):
        probe(model, classify, [batch, batch])
        classify(model, batch).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_works_without_gradient_around_it():
    with torch.no_grad():
        assert probe(mlp(), classify, [vectors()]).budget is not None


def test_bad_input_is_told():
    with pytest.raises(RecipeError, match="at least one batch"):
        probe(mlp(), classify, [])
    with pytest.raises(RecipeError, match="put it into a list"):
        probe(mlp(), lambda m, x: m(x).mean(), vectors()[0])
    with pytest.raises(RecipeError, match="got float"):
        probe(mlp(), lambda m, b: classify(m, b).item(), [vectors()])
    with pytest.raises(RecipeError, match=r"shape \(8, 4\)"):
        probe(mlp(), lambda m, b: m(b[0]), [vectors()])


def test_a_detached_loss_leaves_the_forward_readings():
    look = probe(mlp(), lambda m, b: classify(m, b).detach(), [vectors()])
    assert look.budget is None
    assert "no trainable parameter" in look.trouble[0]
    assert [reading.kind for reading in look.activations[:4]] == ["tanh"] * 4
    assert all(reading.gradient is None for reading in look.parameters)
    assert look.depth_profile() == ()


def test_a_cut_in_the_middle_leaves_the_rest():
    class Detach(nn.Module):
        def forward(self, x):
            return x.detach()

    model = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), Detach(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    look = probe(model, classify, [vectors()])
    assert [row.name for row in look.budget.rows] == ["3", "5"]
    gradients = {reading.name: reading.gradient for reading in look.parameters}
    assert gradients["0.weight"] is None
    assert gradients["3.weight"] > 0
    assert look.parameters[-1].name == "0.bias"


def test_samples_that_come_from_nowhere_are_announced():
    model = NETWORKS["functional"]()[0]

    def loss(model, _batch):
        x = torch.ones(4, 16)
        for weight in model.weights:
            x = torch.tanh(x @ weight)
        return x.square().mean()

    look = probe(model, loss, [torch.randn(3)])
    assert "not seen to flow" in look.trouble[0]
    assert [row.name for row in look.budget.rows] == ["weights.0", "weights.1", "weights.2", "weights.3"]


SLOPES = {
    "relu": (nn.ReLU(), 1.0), "leaky_relu": (nn.LeakyReLU(0.2), 1.0), "elu": (nn.ELU(), 1.0),
    "selu": (nn.SELU(), 1.7580993), "gelu": (nn.GELU(), 1.12904), "silu": (nn.SiLU(), 1.09984),
    "mish": (nn.Mish(), 1.0885), "softplus": (nn.Softplus(), 1.0), "softsign": (nn.Softsign(), 1.0),
    "sigmoid": (nn.Sigmoid(), 0.25), "tanh": (nn.Tanh(), 1.0), "hardtanh": (nn.Hardtanh(), 1.0),
    "relu6": (nn.ReLU6(), 1.0), "hardsigmoid": (nn.Hardsigmoid(), 1 / 6), "hardswish": (nn.Hardswish(), 1.5),
    "logsigmoid": (nn.LogSigmoid(), 1.0), "celu": (nn.CELU(0.7), 1.0), "prelu": (nn.PReLU(), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("kind", SLOPES)
def test_slopes_are_autograds(kind):
    torch.manual_seed(0)
    act, steepest = SLOPES[kind]
    model = nn.Sequential(nn.Linear(16, 12), act)
    with torch.no_grad():
        model[0].weight.mul_(8)
    x = torch.randn(20, 16)
    (reading,) = probe(model, lambda m, b: m(b).square().mean(), [x]).activations
    z = model[0](x).detach().requires_grad_()
    y = act(z)
    (slope,) = torch.autograd.grad(y.sum(), z)
    y = y.detach().double()
    assert (reading.kind, reading.name, reading.module, reading.samples) == (
        kind,
        "1" if kind != "prelu" else "1:prelu",
        "1",
        20,
    )
    assert reading.slope == pytest.approx(float(slope.double().square().mean()) / steepest**2, rel=1e-4)
    assert reading.input_rms == pytest.approx(float(z.detach().double().square().mean().sqrt()), rel=1e-6)
    assert reading.output_rms == pytest.approx(float(y.square().mean().sqrt()), rel=1e-6)
    assert reading.zeros == pytest.approx(float((y == 0).double().mean()))
    assert reading.spread == pytest.approx(float((y - y.mean(0)).norm() / y.numel() ** 0.5), rel=1e-5)
    assert sum(reading.histogram[1]) == pytest.approx(1)
    if kind in {"sigmoid", "tanh", "softsign", "hardtanh", "relu6", "hardsigmoid"}:
        assert reading.saturated == pytest.approx(float((slope.abs() < steepest / 10).double().mean()), abs=1e-6)
    else:
        assert reading.saturated == 0


@pytest.mark.parametrize(
    "act", [nn.ReLU(inplace=True), nn.SiLU(inplace=True), nn.ELU(inplace=True), nn.Hardtanh(inplace=True)]
)
def test_in_place_functions_read_like_the_others(act):
    def read(inplace):
        torch.manual_seed(0)
        copied = copy.deepcopy(act)
        copied.inplace = inplace
        return probe(nn.Sequential(nn.Linear(16, 8), copied, nn.Linear(8, 4)), classify, [vectors()]).activations[0]

    assert read(inplace=True) == read(inplace=False)


def test_dead_is_dead_for_all_samples_of_all_batches():
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():  # the second unit wakes for the second batch only, the third never
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]))
    first = (torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    second = (torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert probe(model, classify, [first]).activations[0].dead == 0.5
    both = probe(model, classify, [first, second]).activations[0]
    assert (both.dead, both.samples) == (0.25, 3)
    assert both.zeros == pytest.approx((2 * 2 + 2) / 12)


def test_small_is_not_dead():
    model = nn.Sequential(nn.Linear(16, 8, bias=False), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        model[0].weight.abs_().mul_(1e-9)
    assert probe(model, classify, [(torch.rand(8, 16), vectors()[1])]).activations[0].dead == 0


@pytest.mark.parametrize("build", [mlp, lambda: Gpt(checkpointed=True)])
def test_optimizers_in_backward_do_not_step(build):
    model = build()
    calls = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(calls.append)
    batch, loss = (vectors(), classify) if isinstance(model, nn.Sequential) else (tokens(), next_word)
    probe(model, loss, [batch])
    assert calls == []
    loss(model, batch).backward()
    assert len(calls) == len(list(model.parameters()))


def test_units_of_images_are_channels():
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(20, 4))
    with torch.no_grad():
        model[0].weight[:1].zero_()
        model[0].bias.copy_(torch.tensor([-1.0, 5.0, 5.0, 5.0]))
    look = probe(model, classify, [(torch.randn(6, 3, 5), torch.randint(0, 4, (6,)))])
    assert look.activations[0].dead == 0.25


def test_functional_code_is_named_by_its_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(16, 4)

        def forward(self, x):
            return torch.sigmoid(torch.tanh(functional.relu(torch.tanh(self.fc(x)))))

    look = probe(Net(), lambda m, b: functional.binary_cross_entropy(m(b[0]), torch.ones(8, 4)), [vectors()])
    assert [a.name for a in look.activations] == ["tanh", "relu", "tanh#2", "sigmoid"]
    assert (look.output.kind, look.output.shape) == ("sigmoid", (8, 4))
    assert look.budget.rows[-1].end_norm > 0


def test_a_shared_activation_is_read_at_every_use():
    act = nn.Tanh()
    model = nn.Sequential(nn.Linear(16, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 4))
    assert [a.name for a in probe(model, classify, [vectors()]).activations][:2] == ["1", "1#2"]


def test_the_loss_has_its_own_activations():
    names = [a.name for a in probe(mlp(3), classify, [vectors()]).activations]
    assert names == ["1", "3", "loss:log_softmax"]


def test_saturated_softmax():
    model = nn.Sequential(nn.Linear(16, 4), nn.Softmax(-1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([100.0, 0, 0, 0]))
    look = probe(model, classify, [vectors()])
    assert look.activations[0].saturated == 1
    assert look.output.kind == "softmax"


def test_gradients_at_activations():
    torch.manual_seed(0)
    model, (x, y) = mlp(3), vectors()
    reading = probe(model, classify, [(x, y)]).activations[0]
    h = model[:2](x)
    (gradient,) = torch.autograd.grad(functional.cross_entropy(model[2:](h), y), h)
    assert reading.gradient == pytest.approx(float(gradient.norm()), rel=1e-6)


def test_output_looks_through_views():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(16, 1), nn.Sigmoid())

        def forward(self, x):
            return self.net(x).squeeze(1)

    output = probe(Net(), lambda m, b: functional.binary_cross_entropy(m(b[0]), torch.ones(8)), [vectors()]).output
    assert (output.kind, output.module, output.shape) == ("sigmoid", "net.1", (8,))


def test_parameters_are_read_against_autograd():
    torch.manual_seed(0)
    model, (x, y) = mlp(3), vectors()
    readings = probe(model, classify, [(x, y)]).parameters
    gradients = torch.autograd.grad(classify(model, (x, y)), list(model.parameters()))
    assert {r.name for r in readings} == {name for name, _ in model.named_parameters()}
    by_name = dict(zip((name for name, _ in model.named_parameters()), gradients, strict=True))
    for reading in readings:
        values = dict(model.named_parameters())[reading.name].detach().double()
        assert reading.norm == pytest.approx(float(values.norm()), rel=1e-9)
        assert reading.mean == pytest.approx(float(values.mean()), rel=1e-6, abs=1e-9)
        assert reading.std == pytest.approx(float(values.std(correction=0)), rel=1e-6)
        assert reading.gradient == pytest.approx(float(by_name[reading.name].double().norm()), rel=1e-6)


def test_tied_frozen_and_unused_parameters():
    torch.manual_seed(0)
    model = Gpt(blocks=1)
    model.unused = nn.Linear(2, 2)
    model.blocks[0].ln1.weight.requires_grad_(False)
    readings = {r.name: r for r in probe(model, next_word, [tokens()]).parameters}
    assert readings["wte.weight"].aliases == ("lm_head.weight",)
    assert "lm_head.weight" not in readings
    assert not readings["blocks.0.ln1.weight"].trainable
    assert readings["unused.weight"].gradient is None
    ordered = sorted(readings.values(), key=lambda r: r.order)
    assert ordered[0].name == "wte.weight"
    assert {r.name for r in ordered[-3:]} == {"unused.weight", "unused.bias", "blocks.0.ln1.weight"}


def test_identical_units():
    weight = torch.randn(6, 5)
    assert identical(weight) == 0
    weight[3] = weight[1]
    assert identical(weight) == pytest.approx(2 / 6)
    assert identical(torch.zeros(4, 3)) == 1
    assert identical(torch.randn(3, 2, 3, 3).bfloat16()) == 0


def test_inputs_and_targets():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    x, y = torch.randn(50, 3) * torch.tensor([1.0, 10.0, 0.0]) + 5, torch.randn(50, 1)

    def loss(model, batch):
        return functional.mse_loss(model(batch["x"] * 2), batch["y"])

    given, target = probe(model, loss, [{"x": x[:30], "y": y[:30]}, {"x": x[30:], "y": y[30:]}]).inputs
    assert (given.role, given.shape, target.role, target.name) == ("input", (30, 3), "target", "y")
    both = x.double() * 2
    assert given.mean == pytest.approx(float(both.mean()), rel=1e-6)
    assert given.std == pytest.approx(float(both.std(correction=0)), rel=1e-6)
    assert given.absmax == pytest.approx(float(both.abs().max()))
    stds = both.std(0, correction=0)
    assert given.feature_std == pytest.approx((float(stds[0]), float(stds[1])), rel=1e-6)


def test_non_finite_inputs_are_counted():
    x, y = vectors()
    x[0, 0], x[1, 1] = torch.nan, torch.inf
    look = probe(mlp(), classify, [(x, y)])
    assert look.inputs[0].nonfinite == 2
    assert look.activations[0].nonfinite > 0
    assert math.isnan(look.loss)
    assert look.budget.cut is not None
    assert sum(r.gradient_nonfinite for r in look.parameters) > 0


def test_types_that_casts_hide_in_functions():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            return x.half().float()

        @staticmethod
        def backward(_ctx, g):
            return g.half().float()

    class Cast(nn.Module):
        def forward(self, x):
            return Half.apply(x)

    model = nn.Sequential(nn.Linear(16, 8), Cast(), nn.Tanh(), nn.Linear(8, 4))
    look = probe(model, lambda m, b: classify(m, b) * 1e-9, [vectors()])
    assert set(look.dtypes) == {"float32", "float16"}
    assert look.low_precision_zeros > 0.5  # what is left are the gradients above the cast
    assert look.budget.cut == "0"


def test_autocast_is_seen():
    look = probe(Gpt(blocks=1), autocast, [tokens()])
    assert set(look.dtypes) == {"float32", "bfloat16"}
    assert abs(math.fsum(row.decades for row in look.budget.rows) - look.budget.total) < 1e-9


def test_operations_come_in_forward_order():
    operations = probe(mlp(3), classify, [vectors()]).operations
    kinds = [o.kind for o in operations if o.kind != "t"]
    assert kinds == ["linear", "tanh", "linear", "tanh", "linear", "log_softmax", "nll_loss"]
    tanh = next(o for o in operations if o.kind == "tanh")
    assert tanh.gain == pytest.approx(math.log10(tanh.leaving / tanh.arriving))
    assert (tanh.module, tanh.shape) == ("1", (8, 16))
    assert len({o.name for o in operations}) == len(operations)


def test_in_place_writes_into_views_keep_the_samples_in_sight():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(16, 8), nn.Linear(10, 4)

        def forward(self, x):
            room = torch.zeros(len(x), 10)
            room[:, 1:9] = torch.tanh(self.first(x))
            return self.second(torch.relu(room))

    look = probe(Padded(), classify, [vectors(), vectors()])
    assert [row.name for row in look.budget.rows] == ["first", "second"]
    assert look.activations[1].samples == 16


def test_lists_of_losses_and_modes_of_the_step():
    model = mlp().eval()
    look = probe(model, classify, [vectors()], step=7)
    assert look.step == 7
    assert not model.training


def test_every_name_of_a_module_has_its_class():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), shared, nn.Sequential(shared))
    look = probe(model, lambda net, x: net(x).square().mean(), [torch.randn(3, 4)])
    assert look.classes == {"0": "Linear", "1": "Tanh", "2": "Linear", "3": "Sequential", "3.0": "Linear"}
