"""The source of a remedy is formatted, says what it does, and trains to the same bits without graddoctor."""

import subprocess
import sys

import pytest
import torch
from pasted import assert_same_when_pasted
from remedy_recipes import mlp, recipe, sgd

from graddoctor.errors import GraddoctorError
from graddoctor.remedies.edit import Edit
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


def test_nothing_but_plain_functions_is_written():
    with pytest.raises(GraddoctorError, match="'own' cannot be written as source: it has no edits"):
        write_source(recipe(), [Remedy("own", (Cause.LOSS,), lambda given: given)])
    foreign = Remedy.written("foreign", [Cause.LOSS], [Edit("model", mlp)])
    with pytest.raises(GraddoctorError, match=r"'foreign' cannot be written.*got remedy_recipes.mlp"):
        write_source(recipe(), [foreign])
