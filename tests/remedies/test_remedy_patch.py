"""A user's file that is patched loads, trains to the bits of the treated recipe, and is otherwise as it was."""

import subprocess

import pytest
import torch

from graddoctor.recipe import load_recipe
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.optimizer import learning_rate, optimizers, rate
from graddoctor.remedies.patch import diff_of, patched
from graddoctor.remedies.plain.schedules import warm_up
from graddoctor.remedies.plain.weights import initialise
from graddoctor.remedies.remedy import Remedy
from graddoctor.remedies.schedule import constant_rate
from graddoctor.remedies.source import write_source
from graddoctor.terms import Cause
from graddoctor.train import train

HEAD = '''"""A file – of the user's own."""

import torch
from torch import nn
from torch.nn import functional as F

import graddoctor as gd


def build():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))  # the network


def build_seeded(seed=0):
    torch.manual_seed(seed)
    return build()


def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 6, generator=generator), torch.arange(8) % 2) for _ in range(4)]


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


class Own(torch.optim.SGD):
    pass


'''

CALLS = {
    "names": """recipe = gd.Recipe(
    model=build,
    loss=loss,
    batches=batches,
    optimizer=lambda model: torch.optim.SGD(
        model.parameters(), lr=0.1
    ),
    epochs=2,  # twice – is enough
)
""",
    "one line": (
        "recipe = gd.Recipe(model=build, loss=loss, batches=batches, "
        "optimizer=lambda m: Own(m.parameters(), lr=(0.1)), clip=(None))\n"
    ),
    "lambdas": """recipe = gd.Recipe(
    model=lambda: (
        build()
    ),
    loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), batches=batches(),
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 2), scheduler_every="epoch", epochs=2)
""",
    "a seed": "recipe = gd.Recipe(model=build_seeded, loss=loss, batches=batches, seed=3, optimizer=lambda m: "
    "torch.optim.SGD(m.parameters(), lr=0.1))\n",
    "a lambda with a seed": "recipe = gd.Recipe(model=lambda seed: build_seeded(seed), loss=loss, batches=batches, "
    "optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))\n",
    "a network": "torch.manual_seed(0)\nrecipe = gd.Recipe(model=build(), loss=loss, batches=batches, "
    "optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))\n",
    "a name that changes": "make = build\nrecipe = gd.Recipe(model=make, loss=loss, batches=batches, "
    "optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))\nmake = None\n",
    "a function": """def make() -> gd.Recipe:
    treated = dict(epochs=2)
    return gd.Recipe(model=build, loss=loss, batches=batches, epochs=treated["epochs"],
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))
""",
}

PLAN = {"0.weight": ("normal", 0.5), "2.bias": ("constant", 0.25)}
MODEL = Remedy.written("start", [Cause.INITIALIZATION], [Edit("model", initialise, {"plan": PLAN})])
WARM = Remedy.written("warm-up", [Cause.SCHEDULE], [Edit("scheduler", warm_up, {"steps": 3})])
CLIP = Remedy.written("clip", [Cause.CLIPPING], [Edit("clip", torch.nn.utils.clip_grad_norm_, {"max_norm": 0.5})])
LONGER = Remedy.written("longer", [Cause.SCHEDULE], [Edit("epochs", arguments={"epochs": 3})])
TREATMENTS = {
    "model": [MODEL],
    "all": [MODEL, learning_rate(0.5), WARM, CLIP, LONGER],
    "left out": [constant_rate(), MODEL],
}


def written(tmp_path, call):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + call, encoding="utf-8")
    return file


def weights(recipe):
    return train(recipe).model.state_dict()


@pytest.mark.parametrize("remedies", TREATMENTS.values(), ids=TREATMENTS.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_the_patched_file_trains_as_the_treated_recipe(tmp_path, call, remedies):
    file = written(tmp_path, call)
    recipe = load_recipe(str(file))
    treated = recipe
    for remedy in remedies:
        treated = remedy(treated)
    expected = weights(treated)
    (tmp_path / "treated.py").write_text(write_source(recipe, remedies), encoding="utf-8")
    file.write_text(patched(file, recipe, remedies), encoding="utf-8")
    found = weights(load_recipe(str(file)))
    assert all(torch.equal(a, b) for a, b in zip(expected.values(), found.values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(expected.values(), weights(recipe).values(), strict=True))


def test_nothing_else_is_touched(tmp_path):
    file = written(tmp_path, CALLS["names"])
    recipe = load_recipe(str(file))
    new = patched(file, recipe, [rate(Facts(recipe), 0.5), MODEL])
    assert new == (
        (HEAD + CALLS["names"])
        .replace("import graddoctor as gd\n", "import graddoctor as gd\nimport treated\n")
        .replace("model=build,", "model=lambda: treated.treat_model(build()),")
        .replace("lambda model: torch.optim.SGD(\n        model.parameters(), lr=0.1\n    )", "treated.make_optimizer")
    )


def test_an_optimizer_that_is_replaced_needs_the_old_one_no_more(tmp_path):
    file = written(tmp_path, CALLS["one line"])
    recipe = load_recipe(str(file))
    assert "optimizer=treated.make_optimizer, " in patched(file, recipe, optimizers(Facts(recipe))[:1])
    own = patched(file, recipe, [learning_rate(0.5)])
    assert "optimizer=functools.partial(treated.make_optimizer, original=lambda m: Own(" in own
    assert "\nimport functools\nimport treated\n" in own


def test_lines_of_windows_stay_lines_of_windows(tmp_path):
    file = written(tmp_path, CALLS["names"])
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    recipe = load_recipe(str(file))
    new = patched(file, recipe, [MODEL, CLIP])
    assert new.count("\r\n") == new.count("\n")


UNTOUCHABLE = {
    "keywords unpacked": "parts = dict(model=build)\nrecipe = gd.Recipe(**parts, loss=loss, batches=batches, "
    "optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))\n",
    "changed later": CALLS["names"] + "recipe = recipe.with_(model=build_seeded)\n",
    "two": CALLS["names"] + CALLS["names"].replace("recipe =", "other ="),
}


@pytest.mark.parametrize("call", UNTOUCHABLE.values(), ids=UNTOUCHABLE.keys())
def test_what_cannot_be_patched_is_not(tmp_path, call):
    file = written(tmp_path, call)
    recipe = load_recipe(f"{file}:recipe")
    assert diff_of(file, recipe, [MODEL]) is None


def test_a_module_that_has_no_name_to_import_is_not_imported(tmp_path):
    file = written(tmp_path, CALLS["names"])
    recipe = load_recipe(str(file))
    assert diff_of(file, recipe, [MODEL], module="my-treatment") is None
    assert diff_of(file, recipe, [MODEL], module="cured").count("cured") == 2


def test_the_diff_is_one_that_git_applies(tmp_path):
    file = written(tmp_path, CALLS["lambdas"])
    recipe = load_recipe(str(file))
    diff = diff_of(file, recipe, TREATMENTS["all"])
    expected = patched(file, recipe, TREATMENTS["all"])
    done = subprocess.run(
        ["git", "apply", "-p0", "-"], input=diff, text=True, cwd=tmp_path, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert file.read_text(encoding="utf-8") == expected
