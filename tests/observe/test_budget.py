import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_networks import NETWORKS, Gpt, ResNet, Tower, classify, images, mlp, next_word, tokens, vectors
from torch import nn
from torch.nn import functional

from graddoctor.observe import probe


def look(name, seed=0):
    torch.manual_seed(seed)
    model, loss, batch = NETWORKS[name]()
    return probe(model, loss, [batch])


def add_up(budget):
    assert abs(math.fsum(row.decades for row in budget.rows) - budget.total) < 1e-9
    ends = math.log10(budget.rows[0].start_norm) - math.log10(budget.rows[-1].end_norm)
    assert abs(ends - budget.total) < 1e-9
    for early, late in pairwise(budget.rows):
        assert early.end_norm == late.start_norm
    for row in budget.rows:
        shares = [part.share for part in row.parts if part.kind in {"skip", "branch", "path"}]
        assert not shares or math.fsum(shares) == pytest.approx(1, abs=1e-9)
        if row.kind in {"layer", "other"} or (row.kind == "joint" and not shares):
            assert math.fsum(part.decades for part in row.parts) == pytest.approx(row.decades, abs=1e-9)
    assert math.fsum(budget.by_kind().values()) == pytest.approx(budget.total, abs=1e-9)
    assert math.fsum(budget.by_module().values()) == pytest.approx(budget.total, abs=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_add_up_on_every_architecture(name):
    budget = look(name).budget
    add_up(budget)
    assert budget.cut is None
    signal = budget.signal
    assert math.fsum(change for _, change in signal.rows) == pytest.approx(signal.total, abs=1e-9)
    assert [name for name, _ in signal.rows] == [row.name for row in budget.rows]


ROWS = {
    "plain": ["0", "2", "4", "6", "8"],
    "vgg": ["features.0", "features.4", "classifier.0", "classifier.3"],
    "pre-activation": ["blocks.0", "blocks.1", "blocks.2", "head"],
    "post-activation": ["blocks.0", "blocks.1", "blocks.2", "head"],
    "dense": ["layers.0", "layers.1", "layers.2", "layers.3", "head"],
    "unet": ["enc1", "enc2", "middle", "dec2", "dec1", "out"],
    "gpt": ["wte", *(f"blocks.{i}.{part}" for i in range(3) for part in ("attn", "mlp")), "lm_head"],
    "re-entrant": ["wte", "blocks.0", "blocks.1", "blocks.2", "lm_head"],
    "two-inputs": ["left.0 + right.0", "left.2 + right.2", "left.4 + right.4", "head.0", "head.2"],
    "auxiliary": ["low.0", "low.2", "low.4", "high.0 + side", "high.2", "high.4"],
    "functional": ["weights.0", "weights.1", "weights.2", "weights.3", "readout"],
    "siamese": ["tower.0", "tower.2", "tower.4", "tower.6"],
    "reused": ["core", "core (2)", "core (3)", "core (4)", "head"],
    "dict": ["net.0", "net.2", "net.4"],
    "frozen": ["0", "2", "4", "6", "8"],
    "weight-norm": ["0", "2", "4", "6"],
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_named_by_layers_and_blocks(name):
    assert [row.name for row in look(name).budget.rows] == ROWS[name]


@pytest.mark.parametrize("name", ["pre-activation", "post-activation", "gpt", "pre-norm", "post-norm"])
def test_residual_blocks_have_a_skip_and_a_branch(name):
    rows = [row for row in look(name).budget.rows if row.kind == "residual"]
    assert len(rows) == {"pre-activation": 3, "post-activation": 3}.get(name, 6)
    assert all([part.kind for part in row.parts][:2] == ["skip", "branch"] for row in rows)


def test_checkpoint_changes_nothing():
    plain, checkpointed = look("gpt").budget, look("checkpointed").budget
    assert [row.decades for row in plain.rows] == pytest.approx([row.decades for row in checkpointed.rows], abs=1e-6)


def test_re_entrant_checkpoints_are_announced():
    assert "3 re-entrant checkpoints" in look("re-entrant").trouble[0]


def norms_by_retain_grad(model, batch):
    x, y = batch
    kept = []
    for layer in model:
        x = layer(x)
        x.retain_grad()
        kept.append(x)
    functional.cross_entropy(x, y).backward()
    return [float(h.grad.double().norm()) for h in kept]


def test_norms_are_those_of_retain_grad():
    torch.manual_seed(1)
    model, batch = mlp(), vectors()
    rows = probe(model, classify, [batch]).budget.rows
    expected = norms_by_retain_grad(model, batch)
    assert rows[0].start_norm == pytest.approx(expected[0], rel=1e-6)
    assert [row.end_norm for row in rows] == pytest.approx([*expected[1::2], expected[-1]], rel=1e-6)


def test_a_large_gradient_is_summed_as_in_float64():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(64, 300), nn.Tanh(), nn.Linear(300, 4))
    batch = (torch.randn(200, 64), torch.randint(0, 4, (200,)))  # 60,000 elements: summed in pieces
    rows = probe(model, classify, [batch]).budget.rows
    assert rows[0].end_norm == pytest.approx(norms_by_retain_grad(model, batch)[1], rel=1e-7)


def test_tiny_gradients_do_not_underflow():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(64, 300), nn.Tanh(), nn.Linear(300, 4))
    batch = (torch.randn(200, 64), torch.randint(0, 4, (200,)))
    plain = probe(model, classify, [batch]).budget
    small = probe(model, lambda m, b: classify(m, b) * 1e-30, [batch]).budget
    assert small.total == pytest.approx(plain.total, abs=1e-5)


def test_rows_agree_with_finite_differences():
    torch.manual_seed(3)
    model = mlp(4, 5, start=5).double()
    x, y = torch.randn(3, 5, dtype=torch.float64), torch.randint(0, 4, (3,))
    rows = probe(model, classify, [(x, y)]).budget.rows

    def norm_at(place):
        with torch.no_grad():
            h = model[: place + 1](x)
            gradient = torch.zeros_like(h)
            for i in range(h.numel()):
                step = torch.zeros_like(h).flatten()
                step[i] = 1e-6
                step = step.view_as(h)
                ends = [functional.cross_entropy(model[place + 1 :](h + sign * step), y) for sign in (1, -1)]
                gradient.view(-1)[i] = (ends[0] - ends[1]) / 2e-6
        return float(gradient.norm())

    places = [0, 1, 3, 5, 6]  # z_1, h_1, h_2, h_3, logits
    norms = [norm_at(place) for place in places]
    expected = [math.log10(early / late) for early, late in pairwise(norms)]
    assert [row.decades for row in rows] == pytest.approx(expected, abs=1e-6)


def test_shares_are_projections():
    torch.manual_seed(4)
    model, batch = ResNet(pre=True), images()
    row = probe(model, classify, [batch]).budget.rows[0]
    x = model.stem(batch[0])
    x.retain_grad()
    skip, branch = x.clone(), x.clone()
    skip.retain_grad()
    branch.retain_grad()
    block = model.blocks[0]
    h = skip + block.conv2(functional.relu(block.bn2(block.conv1(functional.relu(block.bn1(branch))))))
    functional.cross_entropy(model.head(model.blocks[1:](h).mean((2, 3))), batch[1]).backward()
    whole = x.grad.double()
    expected = [float((part.grad.double() * whole).sum() / whole.square().sum()) for part in (skip, branch)]
    assert [part.share for part in row.parts] == pytest.approx(expected, abs=1e-5)
    assert row.start_norm == pytest.approx(float(whole.norm()), rel=1e-5)
    assert row.parts[1].decades == pytest.approx(
        math.log10(float(branch.grad.double().norm() / skip.grad.double().norm())), abs=1e-5
    )


def test_a_branch_is_a_budget_of_its_own():
    torch.manual_seed(4)
    for row in probe(ResNet(pre=True), classify, [images()]).budget.rows[:3]:
        branch = row.parts[1]
        assert [part.kind for part in branch.inside] == ["normalization", "activation", "weight"] * 2
        assert sum(part.decades for part in branch.inside) == pytest.approx(branch.decades, abs=1e-9)


def test_attention_shows_inside_its_branch():
    row = look("gpt").budget.rows[1]
    branch = row.parts[1]
    named = [part.name for part in branch.inside if part.kind in {"weight", "normalization"}]
    assert named == ["blocks.0.ln1", "blocks.0.attn.qkv", "blocks.0.attn.proj"]
    assert sum(part.decades for part in branch.inside) == pytest.approx(branch.decades, abs=1e-9)


def test_shares_with_many_uses_of_one_tensor():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.q, self.k = nn.Linear(16, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.out, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x):
            x = torch.tanh(self.inner(x))
            return self.head(x + self.out(torch.tanh(self.q(x)) * torch.sigmoid(self.k(x))))

    torch.manual_seed(5)
    row = next(r for r in probe(Block(), classify, [vectors()]).budget.rows if r.kind == "residual")
    assert [part.kind for part in row.parts] == ["skip", "branch"]
    assert sum(part.share for part in row.parts) == pytest.approx(1)


def test_edges_carry_only_their_own_part():
    """The cut below the bottleneck of a U-Net: each use of a tensor counts alone; against clones."""
    torch.manual_seed(6)
    model, loss, batch = NETWORKS["unet"]()
    row = next(row for row in probe(model, loss, [batch]).budget.rows if row.name == "middle")
    uses = {}

    def used(name, tensor):
        uses[name] = tensor.clone()
        uses[name].retain_grad()
        return uses[name]

    e1 = functional.relu(model.enc1(batch[0]))
    e2 = functional.relu(model.enc2(functional.max_pool2d(e1, 2)))
    m = functional.relu(model.middle(used("pooled", functional.max_pool2d(e2, 2))))
    d2 = functional.relu(model.dec2(torch.cat([functional.interpolate(m, scale_factor=2.0), used("skip", e2)], 1)))
    d1 = functional.relu(model.dec1(torch.cat([functional.interpolate(d2, scale_factor=2.0), used("outer", e1)], 1)))
    functional.binary_cross_entropy_with_logits(model.out(d1), batch[1]).backward()
    edges = [float(use.grad.double().norm()) for use in uses.values()]
    assert row.start_norm == pytest.approx(math.hypot(*edges), rel=1e-5)


def twenty(act, bias):
    layers = [layer for _ in range(20) for layer in (nn.Linear(256, 256, bias=bias), act())]
    return nn.Sequential(*layers, nn.Linear(256, 10))


@pytest.mark.parametrize(
    ("act", "bias", "backward", "forward"),
    [
        (nn.ReLU, False, -7.43, -8.02),
        (nn.ReLU, True, -7.33, -7.51),
        (nn.Tanh, False, -4.71, -4.62),
        (nn.Tanh, True, -4.71, -4.63),
        (nn.Sigmoid, True, -16.20, None),
    ],
)
def test_twenty_layers_by_default_initialisation(act, bias, backward, forward):
    """Glorot & Bengio's setting, computed independently: decades of δ from z_20 to z_1, equal in norm and RMS here."""
    torch.manual_seed(0)
    batch = (torch.randn(64, 256), torch.randint(0, 10, (64,)))
    budget = probe(twenty(act, bias), classify, [batch]).budget
    last, head = budget.rows[-2], budget.rows[-1]
    activation = next(part.decades for part in last.parts if part.kind == "activation")
    assert budget.total - head.decades - activation == pytest.approx(backward, abs=0.25)
    if forward is not None:
        levels = budget.signal.levels
        assert levels[-2] - levels[1] == pytest.approx(forward, abs=0.35)
    else:  # float32 rounds all samples to one vector beyond some eight layers
        assert budget.signal.total is None or budget.signal.relative[-2] < -6


def test_size_is_shown_apart():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))
    rows = probe(model, classify, [vectors()]).budget.rows
    assert rows[-1].size_decades == pytest.approx(0.5 * math.log10(16 / 4))
    assert rows[0].size_decades == 0


def test_pooling_loses_its_share():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 4))
    row = probe(model, classify, [images()]).budget.rows[0]
    assert [(part.kind, round(part.decades, 6)) for part in row.parts] == [("pool", -0.30103)]


def test_an_exact_zero_is_a_cut():
    class Zero(nn.Module):
        def forward(self, x):
            return functional.relu(x - 1e9)

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 8), Zero(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)
    )
    look = probe(model, classify, [vectors()])
    budget = look.budget
    assert budget.cut == "2"
    assert [row.decades != 0 for row in budget.rows] == [False, False, True, True]
    assert budget.total == pytest.approx(sum(row.decades for row in budget.rows[2:]))
    assert budget.rows[1].start_norm == 0
    assert look.depth_profile()[0] == ("0", -math.inf)


def test_nothing_finite_is_a_cut_at_the_end():
    look = probe(mlp(), lambda m, b: classify(m, b) * torch.nan, [vectors()])
    assert math.isnan(look.loss)
    assert look.budget.cut == "8"
    assert look.budget.total == 0


def test_infinite_gradients_are_a_cut():
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(torch.relu(x) * 0)

    model = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 8), Root(), nn.Linear(8, 4))
    assert probe(model, classify, [vectors()]).budget.cut == "2"


def test_collapsed_samples_are_told():
    model = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4))
    with torch.no_grad():
        model[0].weight.zero_()
    signal = probe(model, classify, [vectors()]).budget.signal
    assert signal.total is None
    assert "all alike" in signal.reason
    assert signal.levels[0] == -math.inf


def test_one_sample_has_no_spread():
    signal = probe(mlp(), classify, [vectors(samples=1)]).budget.signal
    assert signal.total is None
    assert "one sample" in signal.reason


def test_spread_is_that_between_samples():
    torch.manual_seed(0)
    model, batch = mlp(), vectors()
    signal = probe(model, classify, [batch]).budget.signal
    levels = []
    for place in (0, 1, 3, 5, 7, 8):
        h = model[: place + 1](batch[0]).detach().double()
        levels.append(math.log10(float((h - h.mean(0)).norm() / h.numel() ** 0.5)))
    assert list(signal.levels) == pytest.approx(levels, abs=1e-6)


def test_a_gradient_penalty_is_no_part_of_the_network():
    def loss(model, batch):
        x = batch[0].clone().requires_grad_()
        out = model(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return functional.cross_entropy(out, batch[1]) + slope.square().mean()

    torch.manual_seed(0)
    budget = probe(mlp(), loss, [vectors()]).budget
    add_up(budget)
    assert [row.name for row in budget.rows] == ["0", "2", "4", "6", "8"]


def test_a_loss_with_weights_of_its_own_is_no_part_of_the_network():
    judge = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    torch.manual_seed(0)
    budget = probe(mlp(), lambda m, b: judge(m(b[0])).square().mean(), [vectors()]).budget
    assert [row.name for row in budget.rows] == ["0", "2", "4", "6", "8"]


def test_one_layer_has_nothing_to_book():
    look = probe(nn.Linear(16, 4), classify, [vectors()])
    assert (look.budget.rows, look.budget.total, look.budget.cut) == ((), 0, None)
    assert look.trouble == ()


def test_a_gate_is_a_joint_row():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            x = torch.relu(self.conv(x))
            return self.head((x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]).mean((2, 3)))

    torch.manual_seed(0)
    rows = probe(Gated(), classify, [images()]).budget.rows
    assert [(row.name, row.kind) for row in rows] == [("conv", "layer"), ("gate", "joint"), ("head", "layer")]
    assert sum(part.share for part in rows[1].parts[:2]) == pytest.approx(1)


def test_activities_that_the_loss_punishes_are_a_cut_of_edges():
    def loss(model, batch):
        h = model[:4](batch[0])
        return functional.cross_entropy(model[4:](h), batch[1]) + 0.1 * h.square().mean()

    torch.manual_seed(0)
    budget = probe(mlp(), loss, [vectors()]).budget
    add_up(budget)
    assert [row.kind for row in budget.rows] == ["layer", "layer", "joint", "joint", "joint"]


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_the_scale_of_the_loss_cancels(factor, seed):
    torch.manual_seed(seed)
    model, batch = Tower(), vectors()
    plain = probe(model, classify, [batch]).budget
    scaled = probe(model, lambda m, b: factor * classify(m, b), [batch]).budget
    assert [row.decades for row in scaled.rows] == pytest.approx([row.decades for row in plain.rows], abs=1e-5)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(4)), seed=st.integers(0, 1000))
def test_the_order_of_samples_does_not_matter(order, seed):
    torch.manual_seed(seed)
    model, (x, y) = Gpt(blocks=1), tokens()
    plain = probe(model, next_word, [(x, y)]).budget
    mixed = probe(model, next_word, [(x[list(order)], y[list(order)])]).budget
    assert [row.decades for row in mixed.rows] == pytest.approx([row.decades for row in plain.rows], abs=1e-5)
    assert mixed.signal.total == pytest.approx(plain.signal.total, abs=1e-4)
