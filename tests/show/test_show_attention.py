"""The table of attention: in every face where there is some, and in none where there is not."""

from dataclasses import replace

import pytest

from graddoctor.show import attention as table
from graddoctor.show.html import to_html
from graddoctor.show.markdown import to_markdown
from graddoctor.show.notebook import notebook_html
from graddoctor.show.report import AttentionState, LayerAttention
from graddoctor.show.serial import from_json, to_json
from graddoctor.show.text import to_text

START = AttentionState(0, logit_max=0.055, logit_std=0.01, entropy=0.999, saturated=0.0, similarity=0.14, rank=5.2)
END = AttentionState(96, logit_max=87.25, entropy=0.021, saturated=0.934, similarity=None, mixed=0.9, rank=2.6)
LAYERS = (
    LayerAttention("blocks.0.attn", heads=4, keys=10, start=START, end=END),
    LayerAttention("blocks.1.attn", heads=4, keys=10, start=START),
)


@pytest.fixture
def attending(healthy):
    return replace(healthy, attention=LAYERS)


@pytest.mark.parametrize("face", [to_text, to_markdown, to_html, notebook_html])
def test_faces_tell_of_attention_where_there_is_some(face, attending, healthy):
    told, silent = face(attending), face(healthy)
    for cell in ("blocks.0.attn", "0.02", "93%", "87.2", "5.2"):
        assert cell in told
    assert "blocks.0.attn" not in silent
    assert "largest logit" not in silent


def test_cells_tell_start_and_end():
    assert table.cells(LAYERS[0]) == ("1.00 → 0.02", "0% → 93%", "0.055 → 87.2", "0.14 → -", "5.2 → 2.6")
    assert table.cells(LAYERS[1]) == ("1.00", "0%", "0.055", "0.14", "5.2")
    assert table.cells(LayerAttention("a", 1, 1)) == ("-",) * 5


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_a_narrow_terminal_leaves_out_the_last_columns(attending, width):
    text = to_text(attending, width=width)
    part = text[text.index("Attention  ") :]
    assert max(map(len, part.splitlines())) <= width
    assert "entropy" in part
    assert ("rank" in part.split("Loss")[0]) is (width >= 80)
    assert text.isascii()


def test_very_many_are_thinned(healthy):
    many = replace(healthy, attention=tuple(replace(LAYERS[0], name=f"blocks.{k}.attn") for k in range(200)))
    rows = [line for line in to_markdown(many).splitlines() if ".attn |" in line]
    assert len(rows) == table.MOST
    assert "blocks.0.attn" in rows[0]
    assert "blocks.199.attn" in rows[-1]


def test_json_keeps_it_and_does_without(attending, healthy):
    assert from_json(to_json(attending)) == attending
    old = to_json(healthy).replace(', "attention": []', "")
    assert '"attention"' not in old
    assert from_json(old) == healthy
