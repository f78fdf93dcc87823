"""Real models of transformers, built small from their configurations, as patients of a check.

What is wrong with each was put there by a change of its configuration, its weights or its optimizer. Their tasks: the
first token, a sequence said again, a sequence sorted, digits.
"""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

import graddoctor as gd
from graddoctor.terms import Cause, Condition

transformers = pytest.importorskip("transformers")

KINDS, SIZE = 8, 32


def tokens(count, length, seed=0):
    return torch.randint(1, KINDS + 1, (count, length), generator=torch.Generator().manual_seed(seed))


def batched(*tensors):
    return list(zip(*(tensor.split(SIZE) for tensor in tensors), strict=True))


def recall_task():
    words = tokens(128, 6)
    return batched(words, words[:, 0] - 1)


def copy_task():
    return batched(tokens(128, 4).repeat(1, 2))


def sort_task():
    words = tokens(128, 4)
    return batched(words, words.sort(1).values)


def digits_task():
    digits = load_digits()
    chosen = digits.target[:600] < 4
    pixels = torch.tensor(digits.images[:600][chosen][:192], dtype=torch.float32)[:, None] / 8 - 1
    return batched(pixels, torch.tensor(digits.target[:600][chosen][:192]))


def classes(model, batch):
    return functional.cross_entropy(model(batch[0]).logits, batch[1])


def again(model, batch):
    """Of a sequence that says everything twice, predict the second half."""
    logits = model(batch[0]).logits[:, 3:-1]
    return functional.cross_entropy(logits.flatten(0, 1), batch[0][:, 4:].flatten())


def sequence(model, batch):
    logits = model(input_ids=batch[0], labels=batch[1]).logits
    return functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())


def gpt2(**changes):
    usual = {"n_embd": 32, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ends = {"vocab_size": KINDS + 1, "n_positions": 8, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.1}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**(usual | ends | changes)))


def bert(**changes):
    usual = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ends = {"vocab_size": KINDS + 1, "max_position_embeddings": 8, "num_labels": KINDS, "initializer_range": 0.1}
    drops = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**(usual | ends | drops | changes)))


def vit(**changes):
    usual = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ends = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 4, "initializer_range": 0.1}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**(usual | ends | changes)))


def llama(**changes):
    usual = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"vocab_size": KINDS + 1, "intermediate_size": 64, "max_position_embeddings": 8, "initializer_range": 0.1}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**(usual | ends | changes)))


def t5(**changes):
    usual = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    ends = {"vocab_size": KINDS + 1, "decoder_start_token_id": 0}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**(usual | ends | changes)))


TASKS = {gpt2: (copy_task, again), bert: (recall_task, classes), vit: (digits_task, classes)}
TASKS |= {llama: (copy_task, again), t5: (sort_task, sequence)}


def training(build, spoil=lambda model: None, *, lr=3e-3, epochs=24, eps=1e-8, **changes):
    task, loss = TASKS[build]

    def model(seed=0):
        torch.manual_seed(seed)
        net = build(**changes)
        with torch.no_grad():
            spoil(net)
        return net

    def adam(net):
        return torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr, eps=eps)

    return gd.Recipe(model=model, loss=loss, batches=task(), optimizer=adam, epochs=epochs)


def scaled(factor, *parts):
    def spoil(model):
        for name, parameter in model.named_parameters():
            if any(part in name for part in parts):
                parameter.mul_(factor)

    return spoil


def shut(*parts):
    """The last weights of all branches are zero and stay so: nothing but the embeddings is left."""

    def spoil(model):
        for name, parameter in model.named_parameters():
            if any(part in name for part in parts):
                parameter.zero_().requires_grad_(requires_grad=False)

    return spoil


SOUND = {
    "gpt2": lambda: training(gpt2),
    "gpt2 eager": lambda: training(gpt2, attn_implementation="eager"),
    "bert": lambda: training(bert),
    "bert whose tiny weights Adam does not mind": lambda: training(bert, initializer_range=0.0005),
    "vit": lambda: training(vit, epochs=16),
    "llama": lambda: training(llama),
    "t5": lambda: training(t5),
}

C, K = Condition, Cause
STARTS = {C.EXPLODING, C.SATURATION, C.POOR_INITIALIZATION, C.VANISHING}
SICK = {
    "gpt2 weights far too large": (lambda: training(gpt2, initializer_range=2.0), STARTS, {K.INITIALIZATION}),
    "gpt2 embeddings x 1000": (lambda: training(gpt2, scaled(1000.0, "wte", "wpe")), STARTS, {K.INITIALIZATION}),
    "gpt2 epsilon above the gradient": (
        lambda: training(gpt2, eps=1.0),
        {C.PLATEAU, C.LEARNING_RATE_TOO_LOW},
        {K.OPTIMIZER},
    ),
    "llama saturated attention": (
        lambda: training(llama, scaled(60.0, "q_proj", "k_proj"), epochs=16),
        STARTS,
        {K.INITIALIZATION},
    ),
    "llama branches shut": (lambda: training(llama, shut("o_proj", "down_proj")), {C.DISCONNECTED}, {K.GRAPH}),
    "bert drowned norms": (
        lambda: training(bert, layer_norm_eps=1e4, epochs=16),
        {C.VANISHING, C.POOR_INITIALIZATION, C.PLATEAU},
        {K.NORMALIZATION},
    ),
    "bert rate too high": (
        lambda: training(bert, lr=1.0, epochs=16),
        {C.LEARNING_RATE_TOO_HIGH},
        {K.LEARNING_RATE},
    ),
    "bert deep, norms behind sums, no warm-up": (
        lambda: training(bert, num_hidden_layers=12, lr=3e-2, epochs=16),
        {C.LEARNING_RATE_TOO_HIGH},
        {K.LEARNING_RATE},
    ),
    "vit rate too low": (lambda: training(vit, lr=1e-5, epochs=16), {C.LEARNING_RATE_TOO_LOW}, {K.LEARNING_RATE}),
    "t5 rate too low": (lambda: training(t5, lr=1e-5), {C.LEARNING_RATE_TOO_LOW}, {K.LEARNING_RATE}),
}


SLOW = {"llama", "t5", "llama branches shut", "vit rate too low", "t5 rate too low", "gpt2 weights far too large"}
SLOW |= {"bert deep, norms behind sums, no warm-up", "gpt2 eager", "bert whose tiny weights Adam does not mind"}


def named(patients):
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in patients]


@pytest.mark.parametrize("name", named(SOUND))
def test_sound_transformers_stay_without_alarm(name):
    checkup = gd.check(SOUND[name]())
    assert checkup.verdict == "healthy", str(checkup)
    assert checkup.findings == ()


@pytest.mark.parametrize("name", named(SICK))
def test_what_is_wrong_with_a_transformer_is_found(name):
    build, conditions, causes = SICK[name]
    checkup = gd.check(build())
    assert checkup.verdict == "sick", str(checkup)
    first = checkup.findings[0]
    assert first.condition in conditions, str(checkup)
    assert first.causes[0].kind in causes, str(checkup)
    assert len(checkup.findings) == 1
    if "attention" in name:
        assert any("self_attn" in module for module in first.modules)
