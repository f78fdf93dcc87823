import math

import pytest
import torch

from graddoctor.observe import probe

transformers = pytest.importorskip("transformers")


def own_loss(model, batch):
    return model(**batch).loss


def resnet():
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], num_labels=4, layer_type="basic"
    )
    pictures = {"pixel_values": torch.randn(4, 3, 32, 32), "labels": torch.randint(0, 4, (4,))}
    return transformers.ResNetForImageClassification(config), pictures, 4


def vit():
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4,
        num_labels=4,
    )  # fmt: skip
    pictures = {"pixel_values": torch.randn(4, 3, 16, 16), "labels": torch.randint(0, 4, (4,))}
    return transformers.ViTForImageClassification(config), pictures, 4


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    words = torch.randint(0, 50, (4, 8))
    return transformers.GPT2LMHeadModel(config), {"input_ids": words, "labels": words}, 4


def bert():
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, num_labels=3,
    )  # fmt: skip
    words = {"input_ids": torch.randint(0, 50, (4, 8)), "labels": torch.randint(0, 3, (4,))}
    return transformers.BertForSequenceClassification(config), words, 4


@pytest.mark.parametrize("build", [resnet, vit, gpt2, bert])
def test_budgets_of_transformers_models(build):
    torch.manual_seed(0)
    model, batch, residuals = build()
    look = probe(model.train(), own_loss, [batch])
    budget = look.budget
    assert look.trouble == ()
    assert budget.cut is None
    assert abs(math.fsum(row.decades for row in budget.rows) - budget.total) < 1e-9
    assert sum(row.kind == "residual" for row in budget.rows) == residuals
    assert {row.kind for row in budget.rows} == {"residual", "layer"}
    for row in budget.rows:
        shares = [part.share for part in row.parts if part.kind in {"skip", "branch"}]
        assert not shares or math.fsum(shares) == pytest.approx(1)
    assert math.isfinite(budget.signal.total)
    assert budget.rows[-1].name.startswith(("classifier", "lm_head"))
    assert look.output.kind == "linear"
