"""Activations are prescribed where they are the right cure, for what they should change, and nowhere else."""

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import Functional, Headed, data, mlp, recipe, sgd, surveyed
from surgery_networks import Branching, SharedActivation, WithinTransformer
from torch import nn
from torch.nn import functional

from graddoctor.errors import GraddoctorError
from graddoctor.remedies.activation import (
    activation_swaps,
    sigmoid_at_output,
    unsaturated,
    without_output_activation,
)
from graddoctor.remedies.anatomy import anatomy
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.initialization import reinitialised
from graddoctor.terms import Cause
from graddoctor.train import build_model, train

TO = ("leaky_relu", "relu", "elu", "gelu", "silu", "prelu", "selu")


def kinds(given):
    return [site.kind for site in anatomy(given, build_model(given)).sites]


def outputs(given, x=None):
    torch.manual_seed(0)
    return build_model(given)(data()[0] if x is None else x)


def deep(act=nn.Sigmoid, layers=8):
    """Many narrow layers whose weights keep the length of what goes through a tanh."""
    model = nn.Sequential(nn.Linear(6, 16), act())
    for _ in range(layers - 1):
        model.extend([nn.Linear(16, 16), act()])
    model.append(nn.Linear(16, 2))
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def sick(**changes):
    """Sigmoids in eight layers: nothing comes through, and a line would do."""
    x, _ = data(128)
    batches = list(zip(x.split(32), (x[:, 0] > 0).long().split(32), strict=True))
    return recipe(model=deep, batches=batches, epochs=20, optimizer=lambda m: sgd(m, 0.2, momentum=0.9), **changes)


def test_the_right_cure_of_many_sigmoids():
    given = sick()
    plain = train(given).losses[-4:].mean()
    cured = train(unsaturated(Facts(given))(given)).losses[-4:].mean()
    assert plain > 0.68  # ln 2: it knows nothing
    assert cured < 0.2


@pytest.mark.parametrize("to", TO)
def test_each_is_put_there_and_can_be_trained(to):
    given = recipe(model=lambda: mlp(nn.Sigmoid))
    remedy = unsaturated(Facts(given), to)
    treated = remedy(given)
    assert kinds(treated) == [to, to]
    assert train(treated).ended == "complete"
    assert remedy.causes == (Cause.ACTIVATION,)
    assert remedy.source
    assert remedy.modules == ("1", "3")
    assert remedy.name.endswith("in place of sigmoid")


def test_all_are_listed_the_most_general_first():
    found = activation_swaps(Facts(recipe(model=lambda: mlp(nn.Tanh))))
    assert [remedy.name.partition(" in place")[0] for remedy in found] == [
        "leaky ReLU",
        "ReLU",
        "ELU",
        "GELU",
        "SiLU",
        "PReLU",
        "SELU",
    ]


def test_a_dying_rectifier_is_not_exchanged_for_itself():
    found = activation_swaps(Facts(recipe(model=lambda: mlp(nn.ReLU))))
    assert len(found) == len(TO) - 1
    assert all(not remedy.name.startswith("ReLU") for remedy in found)


@pytest.mark.parametrize("build", [lambda: mlp(nn.GELU), lambda: mlp(nn.LeakyReLU), lambda: nn.Linear(6, 2)])
def test_there_is_nothing_to_exchange(build):
    assert activation_swaps(Facts(recipe(model=build))) == []


def test_the_worst_family_alone_is_exchanged_unless_others_are_asked_for():
    def build():
        return nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))

    given = recipe(model=build)
    seen = Facts(given)
    assert kinds(unsaturated(seen, "relu")(given)) == ["relu", "tanh"]
    assert kinds(unsaturated(seen, "relu", {"tanh"})(given)) == ["sigmoid", "relu"]
    assert kinds(unsaturated(seen, "relu", {"tanh", "sigmoid", "relu"})(given)) == ["relu", "relu"]
    assert unsaturated(seen, "relu", {"softplus"}) is None


SPELLINGS = {
    "module": lambda: mlp(nn.Tanh),
    "function": lambda: Functional(torch.tanh),
    "method": lambda: Functional(lambda x: x.tanh()),
    "in place": lambda: Functional(lambda x: x.tanh_()),
    "result dropped": lambda: Functional(lambda x: (x.tanh_(), x)[1]),
    "control flow": lambda: Functional(lambda x: torch.tanh(x) if float(x.detach().sum()) < 1e9 else x),
    "unregistered": lambda: Functional(nn.Tanh()),
}


@pytest.mark.parametrize("build", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_is_exchanged(build):
    given = recipe(model=build)
    treated = unsaturated(Facts(given), "gelu")(given)
    layers = [m for m in build_model(given).modules() if isinstance(m, nn.Linear)]
    x = data()[0]
    for layer in layers[:-1]:
        x = functional.gelu(layer(x))
    assert torch.equal(outputs(treated), layers[-1](x))
    assert train(treated).ended == "complete"


def test_a_forward_that_cannot_be_rewritten_names_its_lines():
    given = recipe(model=Branching, loss=lambda m, b: functional.cross_entropy(m(b[0]), b[1]))
    (edit,) = unsaturated(Facts(given)).edits
    assert edit.function.__name__ == "swap_calls_at_run"
    assert "surgery_networks.py:" in edit.note
    assert edit.note.count("surgery_networks.py:") == 2
    (traced,) = unsaturated(Facts(recipe(model=lambda: Functional(torch.tanh)))).edits
    assert (traced.function.__name__, traced.note) == ("swap_calls", "")


def test_prelu_needs_modules():
    assert unsaturated(Facts(recipe(model=lambda: Functional(torch.tanh))), "prelu") is None


def test_the_output_stays_though_its_module_is_shared():
    given = recipe(model=SharedActivation, loss=lambda m, b: functional.mse_loss(m(b[0]), b[0]))
    treated = unsaturated(Facts(given), "relu")(given)
    assert kinds(treated) == ["relu", "relu", "sigmoid"]
    bare = without_output_activation(Facts(given))(given)
    assert kinds(bare) == ["sigmoid", "sigmoid"]
    both = without_output_activation(Facts(treated))(treated)
    assert kinds(both) == ["relu", "relu"]


def test_hidden_and_output_are_exchanged_in_either_order():
    given = recipe(model=SharedActivation, loss=lambda m, b: functional.mse_loss(m(b[0]), b[0]))
    swap, bare = unsaturated(Facts(given), "relu"), without_output_activation(Facts(given))
    assert kinds(swap.then(bare)(given)) == kinds(bare.then(swap)(given)) == ["relu", "relu"]
    assert torch.equal(outputs(swap.then(bare)(given)), outputs(bare.then(swap)(given)))


def test_one_module_called_in_two_ways_at_one_place_is_left_alone():
    def loss(model, batch):
        return functional.mse_loss(model(batch[0]), batch[0]) + model(-batch[0]).mean()

    given = recipe(model=SharedActivation, loss=loss)
    assert kinds(unsaturated(Facts(given), "relu")(given)) == ["relu", "relu", "sigmoid"] * 2


def test_attention_gates_and_cells_stay():
    class Everything(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.gate, self.hidden = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 8)
            self.lstm, self.mix = nn.LSTM(8, 8), nn.MultiheadAttention(8, 2)
            self.out = nn.Linear(8, 2)

        def forward(self, x):
            x = self.into(x) * torch.sigmoid(self.gate(x))
            x = torch.softmax(x @ x.T, -1) @ x
            x = torch.sigmoid(self.hidden(x))
            x, _ = self.lstm(x)
            return self.out(self.mix(x, x, x)[0])

    given = recipe(model=Everything)
    assert kinds(given) == ["sigmoid", "softmax", "sigmoid"]
    assert kinds(unsaturated(Facts(given), "relu")(given)) == ["sigmoid", "softmax", "relu"]


def test_attention_in_more_axes_is_no_nonlinearity_of_a_layer():
    given = recipe(model=lambda: nn.Sequential(WithinTransformer(), nn.Linear(6, 2)))
    assert activation_swaps(Facts(given), {"softmax", "attention"}) == []


def test_modules_of_ones_own_go_as_a_whole():
    class Steep(nn.Module):
        def forward(self, x):
            return torch.tanh(40 * x)

    given = recipe(model=lambda: mlp(Steep))
    treated = unsaturated(Facts(given), "relu")(given)
    expected = recipe(model=lambda: mlp(nn.ReLU))
    assert torch.equal(outputs(treated), outputs(expected))


@pytest.mark.parametrize("build", [*SPELLINGS.values()], ids=SPELLINGS.keys())
def test_an_exchange_changes_no_name_and_no_weight(build):
    given = recipe(model=build)
    model, treated = build_model(given), build_model(unsaturated(Facts(given))(given))
    state = treated.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_what_follows_a_frozen_layer_stays():
    def build():
        model = mlp(nn.Tanh)
        model[0].requires_grad_(False)
        return model

    given = recipe(model=build)
    assert kinds(unsaturated(Facts(given), "relu")(given)) == ["tanh", "relu"]
    assert unsaturated(Facts(recipe(model=lambda: nn.Sequential(build()[:2], nn.Linear(16, 2))))) is None


def test_an_unknown_network_is_left_alone():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x):
            if torch.overrides._get_current_function_mode_stack():
                raise RuntimeError("looked at")
            return torch.tanh(self.layer(x))

    seen = Facts(recipe(model=Odd))
    assert activation_swaps(seen) == []
    assert without_output_activation(seen) is None


# --- what makes the output


def softmax_before_cross_entropy(**changes):
    x, _ = data(128)
    batches = list(zip(x.split(32), (x[:, 0] > 0).long().split(32), strict=True))
    parts = {"model": lambda: Headed(nn.Softmax(1)), "batches": batches, "epochs": 30}
    return recipe(**{**parts, **changes})


def test_the_right_cure_of_a_softmax_before_cross_entropy():
    given = softmax_before_cross_entropy()
    remedy = without_output_activation(Facts(given))
    assert remedy.causes == (Cause.OUTPUT_ACTIVATION,)
    assert remedy.modules == ("end",)
    assert train(given).losses[-4:].mean() > 0.31  # the least that two classes allow
    assert train(remedy(given)).losses[-4:].mean() < 0.15


ENDS = {
    "module": (nn.Softmax(1), lambda z: z),
    "function": (lambda z: torch.softmax(z, 1), lambda z: z),
    "in place": (lambda z: z.relu_(), lambda z: z),
    "reshaped": (lambda z: torch.sigmoid(z).view(-1, 2), lambda z: z),
    "scaled": (lambda z: 2 * torch.sigmoid(z) - 1, lambda z: 2 * z - 1),
    "after another": (lambda z: torch.relu(torch.tanh(z)), torch.tanh),
    "control flow": (lambda z: torch.tanh(z) if float(z.detach().sum()) < 1e9 else z, lambda z: z),
}


@pytest.mark.parametrize(("end", "raw"), ENDS.values(), ids=ENDS.keys())
def test_the_activation_comes_off_the_output(end, raw):
    given = recipe(model=lambda: Headed(end))
    body = build_model(given).body(data()[0])
    seen = Facts(given)
    assert torch.equal(outputs(without_output_activation(seen)(given)), raw(body))
    instead = sigmoid_at_output(seen)
    assert instead is None if "sigmoid" in kinds(given)[1:] else kinds(instead(given))[-1] == "sigmoid"


@pytest.mark.parametrize(
    "build",
    [mlp, lambda: Headed(lambda z: z), lambda: Headed(lambda z: z - z.mean()), lambda: Headed(nn.LayerNorm(2))],
)
def test_without_an_activation_on_the_output_there_is_nothing_to_take_off(build):
    seen = Facts(recipe(model=build))
    assert without_output_activation(seen) is None
    assert sigmoid_at_output(seen) is None


def test_a_log_softmax_is_what_its_loss_asks_for():
    given = recipe(model=lambda: Headed(nn.LogSoftmax(1)), loss=lambda m, b: functional.nll_loss(m(b[0]), b[1]))
    assert without_output_activation(Facts(given)) is None


def test_probabilities_that_the_loss_needs_stay():
    def loss(model, batch):
        return functional.binary_cross_entropy(model(batch[0]), functional.one_hot(batch[1], 2).float())

    seen = Facts(recipe(model=lambda: Headed(nn.Sigmoid()), loss=loss))
    assert without_output_activation(seen) is None
    assert sigmoid_at_output(seen) is None
    clamped = recipe(model=lambda: Headed(nn.Softmax(1)), loss=loss)
    assert without_output_activation(Facts(clamped)) is None
    assert kinds(sigmoid_at_output(Facts(clamped))(clamped)) == ["tanh", "sigmoid"]


def test_a_sigmoid_is_the_right_cure_of_a_clamp_before_a_loss_on_probabilities():
    x, _ = data(128)
    batches = list(zip(x.split(32), (x[:, :1] > 0).float().split(32), strict=True))

    def loss(model, batch):
        return functional.binary_cross_entropy(model(batch[0]).clamp(0, 1), batch[1])

    def below_zero():
        net = Headed(nn.ReLU(), 1)
        with torch.no_grad():
            net.body[-1].bias.fill_(-3.0)  # where the clamp lets no gradient through
        return net

    given = recipe(model=below_zero, batches=batches, loss=loss, epochs=60)
    treated = sigmoid_at_output(Facts(given))(given)
    assert train(treated).losses[-4:].mean() < 0.3 < train(given).losses[-4:].mean()


# --- as it is pasted


@pytest.mark.parametrize(
    "build", [mlp, lambda: Functional(torch.relu), lambda: nn.Sequential(Branching(), nn.Linear(6, 2))]
)
def test_what_is_pasted_is_what_was_proven(build):
    given = recipe(model=build)
    assert_same_when_pasted(given, activation_swaps(Facts(given))[0], steps=3)


def test_an_exchange_and_a_start_go_together():
    given = sick()
    both = unsaturated(Facts(given), "relu").then(reinitialised())(given)
    assert kinds(both) == ["relu"] * 8
    assert [role.std * role.fan_in**0.5 for role in surveyed(both).weights.values()][1:-1] == pytest.approx(
        [2**0.5] * 7, rel=0.01
    )


def test_a_rewritten_network_is_read_and_rewritten_again():
    given = recipe(model=lambda: Functional(torch.tanh), optimizer=sgd)
    once = unsaturated(Facts(given), "relu")(given)
    twice = unsaturated(Facts(once), "gelu")(once)
    assert kinds(twice) == ["gelu", "gelu"]


def test_unknown_names_are_refused():
    with pytest.raises(GraddoctorError, match=r"'leaky_relu'.*got 'swish'"):
        unsaturated(Facts(recipe()), "swish")
