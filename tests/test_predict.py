"""`gd.predict`: before training, of a recipe or of a plain stack."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import graddoctor as gd
from graddoctor.cli import main
from graddoctor.errors import GraddoctorError, RecipeError
from graddoctor.theory import frugal
from graddoctor.theory.frugal import cropped


def build(activation=nn.Tanh, depth=6, width=64):
    layers = [nn.Linear(8, width)]
    for _ in range(depth):
        layers += [activation(), nn.Linear(width, width)]
    return nn.Sequential(*layers)


def make(model=build, samples=16, **parts):
    torch.manual_seed(0)
    batch = torch.randn(samples, 8), torch.randint(0, 4, (samples,))
    given = {
        "model": model,
        "loss": lambda net, b: cross_entropy(net(b[0]), b[1]),
        "batches": [batch, batch],
        "optimizer": lambda net: torch.optim.SGD(net.parameters(), lr=0.1),
    }
    return gd.Recipe(**(given | parts))


@pytest.mark.parametrize(
    ("activation", "depth", "weight_std", "bias_std", "total"),
    [
        # the theory's totals: recursion over the layers, default biases of width 1000
        ("tanh", 30, 3**-0.5, 3000**-0.5, -7.290),
        ("sigmoid", 10, 3**-0.5, 3000**-0.5, -8.516),
        ("relu", 20, 3**-0.5, 3000**-0.5, -7.782),
        ("relu", 50, 2**0.5, 0.0, 0.0),
        ("tanh", 50, 1.0, 0.0, -0.922),
        ("gelu", 20, 3**-0.5, 3000**-0.5, -10.678),
        ("gelu", 50, 2**0.5, 0.0, -5.719),
        ("selu", 50, 1.0, 0.0, 0.751),
    ],
)
def test_a_plain_stack_is_as_simulations_have_it(activation, depth, weight_std, bias_std, total):
    found = gd.predict(depth=depth, activation=activation, weight_std=weight_std, bias_std=bias_std)
    assert found.total == pytest.approx(total, abs=0.03)
    assert found.decades_per_layer == found.total / depth
    assert len(found.rows) == found.depth == depth
    assert found.total == pytest.approx(sum(row.decades for row in found.rows))


def test_defaults_are_those_that_are_told():
    assert gd.predict(depth=50) == gd.predict(depth=50, width=512, activation="tanh", weight_std=1.0, bias_std=0.0)


def test_how_deep_a_gradient_reaches():
    found = gd.predict(depth=10, activation="tanh", weight_std=3**-0.5)
    assert found.reach(1.0) < found.reach(3.0) < found.reach(10.0)
    assert found.reach(10.0) == pytest.approx(42, abs=1.5)
    assert math.isinf(gd.predict(depth=10, activation="relu", weight_std=2**0.5).reach(1.0))
    with pytest.raises(GraddoctorError, match="a number of decades above 0, got 0"):
        found.reach(0)


def test_a_function_is_an_activation_too():
    named, given = (gd.predict(depth=8, activation=one, weight_std=0.9) for one in ("softplus", nn.Softplus()))
    assert given.total == pytest.approx(named.total, abs=0.01)
    assert gd.predict(depth=8, activation=torch.sin).phase == "critical"


def test_a_recipe_is_predicted_as_it_is_measured():
    recipe = make()
    found = gd.predict(recipe)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = build()
    real = gd.probe(model, recipe.loss, list(recipe.batches)).budget
    assert [row.name for row in found.rows] == [row.name for row in real.rows]
    assert found.total == pytest.approx(real.total, abs=0.15)
    assert found.depth == 6
    assert found.plain
    assert found.phase == "ordered"
    assert found.stack.activation.name == "tanh"
    assert found.stack.weight_std == pytest.approx(3**-0.5, rel=0.03)
    assert found.initialization.activation == "tanh"
    assert len(found.layers) == 7


def test_nothing_of_the_callers_is_disturbed():
    network = build()
    before = [p.clone() for p in network.parameters()]
    recipe = make(network)
    state = torch.get_rng_state()
    gd.predict(recipe)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


def test_the_network_is_built_once():
    built = []

    def count():
        built.append(build())
        return built[-1]

    gd.predict(make(count))
    assert len(built) == 1


def test_networks_that_are_no_plain_stack_are_judged_by_their_rows():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))

        def forward(self, x):
            return x + self.inner(x)

    found = gd.predict(make(lambda: nn.Sequential(nn.Linear(8, 64), *[Block() for _ in range(6)], nn.Linear(64, 4))))
    assert not found.plain
    assert math.isnan(found.correlation_scale)
    assert found.asymptotic == pytest.approx(found.rows[4].decades, abs=0.02)


def test_dropout_and_the_loss_are_no_part_of_a_plain_stack():
    def dropping(p):
        layers = [layer for _ in range(8) for layer in (nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p))]
        for layer in layers[::3]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return nn.Sequential(nn.Linear(8, 64), *layers, nn.Linear(64, 4))

    sound, dropped = (gd.predict(make(lambda p=p: dropping(p))) for p in (0.0, 0.5))
    assert sound.plain
    assert sound.asymptotic == pytest.approx(0, abs=0.02)
    assert (dropped.plain, dropped.phase) == (False, "chaotic")
    assert dropped.asymptotic == pytest.approx(0.5 * math.log10(2), abs=0.02)
    linear = make(lambda: nn.Sequential(*[nn.Linear(8, 8) for _ in range(6)]), loss=lambda m, b: m(b[0]).pow(2).mean())
    assert gd.predict(linear).stack is None


@pytest.mark.parametrize(("activation", "name"), [(nn.ReLU6, "relu6"), (lambda: nn.Hardtanh(-5, 5), "hardtanh")])
def test_activations_are_told_apart_by_their_bounds(activation, name):
    layers = [layer for _ in range(4) for layer in (nn.Linear(8, 8), activation())]
    assert gd.predict(make(lambda: nn.Sequential(*layers, nn.Linear(8, 4)))).stack.activation.name == name


def test_numbers_of_numpy_are_numbers():
    assert gd.predict(depth=np.int64(3), weight_std=np.float32(1)).depth == 3


def test_what_a_recurrent_layer_is_given_counts():
    class Reader(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.cell, self.head, self.scale = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 4), scale

        def forward(self, x):
            return self.head(self.cell(self.scale * x)[0][:, -1])

    batch = torch.randn(4, 12, 8), torch.randint(0, 4, (4,))
    slopes = [gd.predict(make(lambda s=s: Reader(s), batches=[batch])).recurrent[0].decades_per_lag for s in (1, 100)]
    assert slopes[1] < slopes[0] - 0.03


def test_recurrent_cells_are_told():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 4)

        def forward(self, x):
            return self.head(self.cell(x)[0][:, -1])

    batch = torch.randn(4, 12, 8), torch.randint(0, 4, (4,))
    (found,) = gd.predict(make(Reader, batches=[batch])).recurrent
    assert (found.name, found.kind) == ("cell", "LSTM")
    assert -0.3 < found.decades_per_lag < -0.1


def test_large_batches_of_large_networks_are_looked_at_in_part(monkeypatch):
    monkeypatch.setattr(frugal, "WORK", 1e5)
    model = nn.Sequential(nn.Embedding(10, 64), nn.Linear(64, 64))
    ids = torch.zeros(32, 128, dtype=torch.long)
    small = cropped({"ids": ids, "mask": torch.ones(32, 128), "label": torch.zeros(32)}, model)
    assert small["ids"].shape == small["mask"].shape == (2, 16)
    assert small["label"].shape == (2,)
    monkeypatch.setattr(frugal, "WORK", 1e6)  # tokens are kept before samples are
    assert cropped(ids, model).shape == (2, 104)
    monkeypatch.setattr(frugal, "WORK", 1e5)
    assert cropped(ids[:2, :16], nn.Linear(2, 2)).shape == (2, 16)
    seen = []

    def look(batch):
        seen.append(batch.shape)
        if batch.shape[0] != 32:
            raise ValueError("this network wants 32 samples")
        return "seen"

    assert frugal.lighter(look, model, ids) == "seen"
    assert seen == [(2, 16), (32, 128)]


SIZES = """
import resource, torch, warnings
warnings.simplefilter("ignore")
import graddoctor as gd
from graddoctor.predict import predict
from graddoctor.theory.expected import expected
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20000, 512)
        self.body = nn.ModuleList([nn.Linear(512, 512) for _ in range(40)])
        self.head = nn.Linear(512, 20000, bias=False)
        self.head.weight = self.embed.weight
    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.body:
            x = x + torch.relu(layer(x))
        return self.head(x)
ids = torch.randint(0, 20000, (64, 256))
net = Net()
recipe = gd.Recipe(model=lambda: net, loss=lambda m, b: m(b).square().mean(), batches=[ids],
                   optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))
small = gd.Recipe(model=lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)),
                  loss=lambda m, b: m(b).mean(), batches=[torch.ones(2, 2)], optimizer=recipe.optimizer)
predict(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predict(recipe)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, sum(p.numel() for p in net.parameters()) * 4 // 1024)
"""


def test_weights_are_not_in_memory_twice():
    done = subprocess.run([sys.executable, "-c", SIZES], capture_output=True, text=True, check=True)
    grown, weights = map(int, done.stdout.split())
    assert grown < 0.7 * weights


class TestBadInput:
    @pytest.mark.parametrize("depth", [0, -3, 2.5, True])
    def test_a_depth_that_is_none(self, depth):
        with pytest.raises(GraddoctorError, match=f"depth: expected a whole number from 1 on, got {depth}"):
            gd.predict(depth=depth)

    def test_a_width_that_is_none(self):
        with pytest.raises(GraddoctorError, match="width: expected a whole number from 1 on, got 0"):
            gd.predict(depth=3, width=0)

    def test_an_activation_that_nobody_knows(self):
        with pytest.raises(GraddoctorError, match=r"did you mean 'tanh'\?.*expected one of linear, relu"):
            gd.predict(depth=3, activation="tahn")

    def test_both_and_neither(self):
        with pytest.raises(GraddoctorError, match="got both: leave out depth"):
            gd.predict(make(), depth=3)
        with pytest.raises(GraddoctorError, match="got neither"):
            gd.predict()
        with pytest.raises(GraddoctorError, match="takes a Recipe, got a Sequential"):
            gd.predict(build())

    def test_a_network_that_cannot_be_run(self):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            gd.predict(make(batches=[(torch.randn(4, 5), torch.zeros(4).long())]))

    def test_no_batch(self):
        with pytest.raises(RecipeError, match="batches gave no batch"):
            gd.predict(make(batches=[]))

    def test_weights_that_are_zero_let_nothing_through(self):
        def zero():
            model = build()
            nn.init.zeros_(model[4].weight)
            return model

        found = gd.predict(make(zero))
        assert found.total == -math.inf
        assert found.budget.cut == "4"
        assert found.exit_code == 1
        assert gd.predict(depth=3, weight_std=0.0).total == -math.inf

    def test_weights_that_are_not_finite(self):
        def broken():
            model = build()
            nn.init.constant_(model[2].weight, math.inf)
            return model

        with pytest.raises(RecipeError, match="weights of '2' are not finite"):
            gd.predict(make(broken))

    def test_data_that_are_not_finite(self):
        batch = torch.full((4, 8), math.nan), torch.zeros(4).long()
        with pytest.raises(RecipeError, match="the batch holds numbers that are not finite"):
            gd.predict(make(batches=[batch]))

    def test_a_signal_beyond_all_numbers(self):
        def loud():
            layers = [layer for _ in range(80) for layer in (nn.Linear(8, 8), nn.ReLU())]
            for layer in layers[::2]:
                nn.init.normal_(layer.weight, std=1e3)
            return nn.Sequential(*layers, nn.Linear(8, 4))

        with pytest.raises(RecipeError, match=r"the signal that reaches '\d+' is beyond all numbers"):
            gd.predict(make(loud))
        with pytest.raises(GraddoctorError, match=r"exp at weight_std=1, .* within 3 layers the signal is beyond all"):
            gd.predict(depth=3, activation="exp")

    @pytest.mark.parametrize("activation", ["elu(nan)", "celu(0)", "leaky_relu(1e200)", "leaky_relu(a)"])
    def test_parameters_that_are_none(self, activation):
        with pytest.raises(GraddoctorError, match=r"the parameters of .* do not fit"):
            gd.predict(depth=3, activation=activation)

    @pytest.mark.parametrize("scale", [math.nan, 1e200, -1.0, "1"])
    def test_scales_that_are_none(self, scale):
        with pytest.raises(GraddoctorError, match="weight_std: expected a standard deviation from 0 to 1,000,000"):
            gd.predict(depth=3, weight_std=scale)

    def test_a_function_without_a_slope_is_reported_all_the_same(self):
        found = gd.predict(depth=3, activation=torch.sign)
        assert found.initialization is None
        assert "No gradient gets past layer 3" in str(found)

    def test_no_layers(self):
        with pytest.raises(RecipeError, match="no layer of weights follows another one"):
            gd.predict(make(lambda: nn.Linear(8, 4)))


RECIPE = """\
import torch
from torch import nn
from graddoctor import Recipe
print("the user's own words")
def build():
    return nn.Sequential(nn.Linear(4, 32), *[m for _ in range(8) for m in (nn.Sigmoid(), nn.Linear(32, 32))])
recipe = Recipe(model=build, loss=lambda m, b: m(b).square().mean(), batches=[torch.randn(8, 4)],
                optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))
"""


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def folder(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "train.py").write_text(RECIPE)

    def fails(self, capsys, *arguments):
        assert main(["predict", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        return line.removeprefix("graddoctor: ")

    def test_a_plain_stack(self, capsys):
        assert main(["predict", "--depth", "50", "--activation", "tanh", "--weight-std", "1.0"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("STEADY  50 layers of tanh:")
        assert "-0.92 decades" in out
        assert main(["predict", "--depth", "50", "--activation", "sigmoid", "--bias-std", "0.1", "--width", "64"]) == 1

    def test_a_file(self, capsys):
        assert main(["predict", "train.py"]) == 1
        out = capsys.readouterr().out
        assert "VANISHING  train.py:" in out
        assert "sigmoid" in out

    def test_json_is_all_there_is_on_stdout(self, capsys):
        assert main(["predict", "train.py", "--json", "--seed", "3"]) == 1
        printed = capsys.readouterr()
        data = json.loads(printed.out)
        assert (data["schema"], data["kind"], data["verdict"]) == (1, "prediction", "vanishing")
        assert data["decades_per_layer"] == pytest.approx(data["total"] / 8)
        assert len(data["budget"]["rows"]) == 9
        assert "the user's own words" in printed.err

    def test_reports_are_written_and_read_again(self, tmp_path, capsys):
        assert main(["predict", "--depth", "5", "-o", "a.json", "-o", "a.md", "-o", "a.html", "-o", "a.svg"]) == 0
        assert "<html" in (tmp_path / "a.html").read_text()
        assert "# Steady: 5 layers of tanh" in (tmp_path / "a.md").read_text()
        assert "chaotic" in (tmp_path / "a.svg").read_text()
        capsys.readouterr()
        assert main(["report", "a.json", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "a.json").read_text())

    def test_bad_usage_is_one_line(self, capsys, tmp_path):
        assert (
            self.fails(capsys)
            == "predict takes a recipe or a depth, got neither: as in predict(depth=50, activation='tanh')"
        )
        assert (
            self.fails(capsys, "train.py", "--depth", "3")
            == "predict takes a recipe or a depth, got both: leave out depth"
        )
        assert self.fails(capsys, "--depth", "0") == "depth: expected a whole number from 1 on, got 0"
        assert "did you mean 'relu'?" in self.fails(capsys, "--depth", "3", "--activation", "rleu")
        assert "--seed builds a network: give a file too" in self.fails(capsys, "--depth", "3", "--seed", "1")
        assert "its name should end in" in self.fails(capsys, "--depth", "3", "--out", "a.gif")
        assert "expected a standard deviation" in self.fails(capsys, "--depth", "3", "--weight-std", "-1")
        (tmp_path / "train.py").write_text(RECIPE.replace("randn(8, 4)", "randn(8, 5)"))
        assert "shapes cannot be multiplied" in self.fails(capsys, "train.py")
