"""The source of a remedy is formatted, says what it does, and trains to the same bits without graddoctor."""

import importlib
import pkgutil
import random
import subprocess
import sys

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import mlp, recipe, sgd
from torch import nn
from torch.nn import functional

from graddoctor.errors import GraddoctorError
from graddoctor.remedies import plain
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.gather import gap_before, helpers, imports, is_plain
from graddoctor.remedies.literals import call, literal
from graddoctor.remedies.plain.loaders import shuffle_batches
from graddoctor.remedies.plain.loss_scale import scaled_loss
from graddoctor.remedies.plain.steps import scale_rate
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.source import write_source
from graddoctor.terms import Cause

FASTER = Remedy.written(
    "learning rate x 0.5", [Cause.LEARNING_RATE], [Edit("optimizer", scale_rate, {"factor": 0.5})], rate=0.5
)


def formatted(source, tmp_path):
    file = tmp_path / "treated.py"
    file.write_text(source)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--check",
        "--diff",
        "--isolated",
        "--line-length",
        "100",
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout


def test_the_rate_of_a_plain_optimizer_is_written_as_a_number(tmp_path):
    given = recipe(optimizer=lambda m: sgd(m, 0.1, momentum=0.9))
    source = write_source(given, [FASTER])
    assert "return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)" in source
    assert "scale_rate" not in source
    assert formatted(source, tmp_path) == ""
    assert_same_when_pasted(given, FASTER)


def test_groups_are_written_by_names(tmp_path):
    def build(model):
        groups = [{"params": model[0].parameters(), "weight_decay": 0.1}, {"params": model[2].parameters()}]
        return torch.optim.AdamW(groups, lr=torch.tensor(0.01), betas=(0.8, 0.99))

    given = recipe(optimizer=build)
    source = write_source(given, [FASTER])
    assert '{"params": parameters_of(model, ["0.weight", "0.bias"]), "weight_decay": 0.1}' in source
    assert formatted(source, tmp_path) == ""
    assert_same_when_pasted(given, FASTER)


class Own(torch.optim.SGD):
    pass


def test_an_optimizer_of_the_users_own_stays_his(tmp_path):
    given = recipe(optimizer=lambda m: Own(m.parameters(), lr=0.1))
    source = write_source(given, [FASTER])
    assert "optimizer = original(model)" in source
    assert formatted(source, tmp_path) == ""
    assert_same_when_pasted(given, FASTER)


def test_a_builder_of_optimizers_that_changes_the_network_is_kept(tmp_path):
    def freezing(model):
        model[0].requires_grad_(requires_grad=False)
        return sgd(model, 0.1)

    given = recipe(optimizer=freezing)
    source = write_source(given, [FASTER])
    assert "optimizer = original(model)" in source
    assert_same_when_pasted(given, FASTER)


def test_nothing_but_plain_functions_is_written():
    with pytest.raises(GraddoctorError, match="'own' cannot be written as source: it has no edits"):
        write_source(recipe(), [Remedy("own", (Cause.LOSS,), lambda given: given)])
    with pytest.raises(GraddoctorError, match="'own' cannot be written as source: it has no edits"):
        write_source(recipe(), [FASTER.then(Remedy("own", (Cause.LOSS,), lambda given: given))])
    foreign = Remedy.written("foreign", [Cause.LOSS], [Edit("model", mlp)])
    with pytest.raises(GraddoctorError, match=r"'foreign' cannot be written.*got remedy_recipes.mlp"):
        write_source(recipe(), [foreign])


LOSS = Edit("loss", scaled_loss, {"scale": 2.0}, "Twice.")


def test_every_part_is_written_and_trained(tmp_path):
    treatment = Remedy.written(
        'all "parts"',
        [Cause.LOSS],
        [
            LOSS,
            Edit("loss", scaled_loss, {"scale": 4.0}),
            Edit("batches", shuffle_batches, {}, "In another order each epoch. " * 8),
            Edit("epochs", arguments={"epochs": 3}, note="Longer."),
            Edit("clip", nn.utils.clip_grad_norm_, {"max_norm": 1.0}),
            Edit("scheduler", torch.optim.lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.5}),
            Edit("precision"),
        ],
        cost="much",
    )
    given = recipe(clip=lambda parameters: None, scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1))
    source = write_source(given, [treatment])
    assert "- all 'parts'; it costs much" in source
    assert "EPOCHS = 3" in source
    assert "PRECISION = None" in source
    assert "    return scaled_loss(model, batch, changed_1, scale=4.0)" in source
    assert formatted(source, tmp_path) == ""
    assert_same_when_pasted(given, treatment)


def test_what_is_left_out_is_none(tmp_path):
    left = Remedy.written("left out", [Cause.LOSS], [Edit("clip"), Edit("scheduler", note="No schedule.")])
    given = recipe(
        clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1e-3),
        scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1),
    )
    source = write_source(given, [left])
    assert "# No schedule.\nmake_scheduler = None" in source
    assert "\nclip = None" in source
    assert formatted(source, tmp_path) == ""
    assert_same_when_pasted(given, left)


def test_nothing_is_written_as_nothing(tmp_path):
    source = write_source(recipe(), [])
    assert "Nothing is changed." in source
    assert "return model" in source
    assert formatted(source, tmp_path) == ""


def plain_functions():
    for info in pkgutil.iter_modules(plain.__path__):
        module = importlib.import_module(f"{plain.__name__}.{info.name}")
        functions = [
            f for f in vars(module).values() if callable(f) and getattr(f, "__module__", "") == module.__name__
        ]
        yield pytest.param(module.__name__, [f for f in functions if is_plain(f)], id=info.name)


@pytest.mark.parametrize(("module", "functions"), list(plain_functions()))
def test_every_plain_function_can_be_taken_as_it_is(module, functions, tmp_path):
    body = helpers(functions)
    text = f"{imports(body, [module])}{gap_before(body)}{body}\n"
    assert "graddoctor" not in text
    assert "noqa" not in text
    assert formatted(text, tmp_path) == ""
    space = {"__name__": "pasted"}
    exec(compile(text, "pasted", "exec"), space)  # noqa: S102 - what a user would do
    assert {function.__name__ for function in functions} <= space.keys()
    options = ["--isolated", "--line-length", "100", "--select", "F,I"]
    command = [sys.executable, "-m", "ruff", "check", *options, "treated.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_names_of_plain_functions_are_their_own():
    reserved = ["treat_model", "make_optimizer", "make_scheduler", "loss", "clip", "batches", "parameters_of"]
    names = [function.__name__ for one in plain_functions() for function in one.values[1]]
    assert sorted({*names, *reserved}) == sorted([*names, *reserved])


def random_literal(draw, depth):
    kind = draw.choice(["word", "number", "torch", "text"] + ["list", "tuple", "dict"] * (depth > 0))
    size = draw.randrange(5)
    if kind == "list":
        return [random_literal(draw, depth - 1) for _ in range(size)]
    if kind == "tuple":
        return tuple(random_literal(draw, depth - 1) for _ in range(size))
    if kind == "dict":
        keys = [draw.choice([random_text(draw), (random_text(draw), random_text(draw), k)]) for k in range(size)]
        return {key: random_literal(draw, depth - 1) for key in keys}
    options = {
        "word": [None, True, False, float("inf")],
        "number": [0, -3, 1e-7, 0.1, 123456789, -2.5e20],
        "torch": [nn.ReLU, torch.tanh, functional.leaky_relu, torch.float32, torch.optim.SGD, nn.init.zeros_],
        "text": [random_text(draw), 'a "quote"', "it's", "both \" and '", "back\\slash", "σ"],
    }
    return draw.choice(options[kind])


def random_text(draw):
    return ".".join(draw.choice(["layers", "0", "weight", "self_attention", "x"]) for _ in range(draw.randrange(1, 6)))


def test_literals_are_laid_out_as_a_formatter_leaves_them_and_mean_what_they_are(tmp_path):
    draw = random.Random(1)  # noqa: S311 - the same ones each time
    values = [random_literal(draw, 4) for _ in range(1000)]
    head = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\n"
    lines = [literal(value).laid_out(0, f"value_{k} = ") for k, value in enumerate(values)]
    calls = [
        call("dict", "model", plan=value, also=values[k - 1]).laid_out(1, "    ") for k, value in enumerate(values)
    ]
    text = head + "\n".join(lines) + "\n\n\ndef function(model):\n" + "\n".join(calls) + "\n"
    assert formatted(text, tmp_path) == ""
    space = {}
    exec(text, space)  # noqa: S102 - to see what they mean
    assert [space[f"value_{k}"] for k in range(len(values))] == values


@pytest.mark.parametrize("value", [object(), nn.ReLU(), torch.zeros(3), lambda x: x, mlp])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(GraddoctorError, match="expected a number, a string"):
        literal([value])
