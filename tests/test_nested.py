"""Containers of any kind come back of the same kind, with every tensor visited once and nothing else touched."""

import copy
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graddoctor.nested import leaves, mapped, mapped_with_path

Pair = namedtuple("Pair", "x y")  # noqa: PYI024 - the old spelling must work too


@dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    note: str = "kept"
    size: int = field(init=False, default=3)


@dataclass(slots=True)
class Slotted:
    x: Any


class Tokens(UserDict):
    """As transformers' BatchEncoding: a mapping that is no dict."""


def tensor():
    return torch.arange(4.0)


CONTAINERS = {
    "tensor": tensor,
    "tuple": lambda: (tensor(), "a", 1),
    "list": lambda: [tensor(), None],
    "dict": lambda: {"x": tensor(), "n": 3},
    "ordered": lambda: OrderedDict(x=tensor()),
    "default": lambda: defaultdict(list, x=tensor()),
    "userdict": lambda: Tokens(x=tensor()),
    "namedtuple": lambda: Pair(tensor(), (tensor(), 2)),
    "frozen dataclass": lambda: Sample(tensor()),
    "slots": lambda: Slotted([tensor()]),
    "nested": lambda: {"a": [Pair(tensor(), Sample(tensor()))], "b": ()},
    "nothing": lambda: "text",
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_containers_keep_their_type_and_the_original_its_values(make):
    thing = make()
    twin = mapped(lambda t: t + 1, thing)
    assert type(twin) is type(thing)
    before, after = leaves(thing), leaves(twin)
    assert [path for path, _ in before] == [path for path, _ in after]
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert torch.equal(old, tensor())
        assert torch.equal(new, tensor() + 1)


def test_what_is_no_tensor_stays():
    twin = mapped(lambda t: t, (Sample(tensor(), note="mine"), defaultdict(int, a=tensor())))
    assert twin[0].note == "mine"
    assert twin[0].size == 3
    assert twin[1]["missing"] == 0


def test_the_model_outputs_of_transformers_keep_their_attributes():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    output = outputs.SequenceClassifierOutput(loss=torch.tensor(1.0), logits=torch.ones(2, 3))
    twin = mapped(lambda t: t * 2, output)
    assert type(twin) is type(output)
    assert float(twin.loss) == 2
    assert torch.equal(twin["logits"], torch.full((2, 3), 2.0))
    assert float(output.loss) == 1


nests = st.recursive(
    st.builds(torch.tensor, st.integers(0, 9)) | st.integers() | st.none() | st.text(max_size=3),
    lambda part: st.lists(part, max_size=3) | st.tuples(part, part) | st.dictionaries(st.text(max_size=2), part),
    max_leaves=8,
)


@given(nests)
def test_the_way_leads_to_the_tensor(thing):
    for path, found in leaves(thing):
        at = thing
        for step in path:
            at = at[step]
        assert at is found


@given(nests)
def test_mapping_the_identity_changes_nothing(thing):
    twin = mapped(lambda t: t, thing)
    assert repr(twin) == repr(thing)
    seen = []
    mapped_with_path(lambda path, t: seen.append((path, int(t))), copy.deepcopy(thing))
    assert seen == [(path, int(t)) for path, t in leaves(thing)]
