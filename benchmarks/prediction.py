"""Predicted against measured decades a layer at initialization.

    python benchmarks/prediction.py [--seeds 1] [--quick]

Every network is built from a seed, in float64, so that no gradient falls below what the type can hold. Predicted: the
budget that theory expects of this network on a batch. Measured: the budget that `graddoctor.probe` reads of a backward
pass. The error is the difference of the totals over the layers or blocks that the gradient passes. No threshold and no
constant of the theory was chosen on these networks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import graddoctor as gd
from graddoctor.recording import environment
from graddoctor.theory import gain
from graddoctor.theory.expected import expected
from graddoctor.theory.reading import depth_of

RESULTS = Path(__file__).parent / "results"

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leaky_relu(0.2)": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "hardtanh": nn.Hardtanh,
}
STARTS = ("default", "xavier", "critical")
DEPTHS = (5, 10, 20, 50, 100)
WIDTH, INPUTS, SAMPLES, CLASSES = 256, 64, 16, 10

BOUNDS = {"MLP": (0.02, 0.10), "conv": (0.05, 0.20), "residual": (0.05, 0.20), "pre-LN transformer": (0.05, 0.20)}
"""What is asked for: median and 95th percentile of the absolute error, decades a layer."""


@dataclass(frozen=True)
class Case:
    """A kind of network, how it is built, and a batch for it."""

    family: str
    name: str
    model: Callable[[], nn.Module]
    batch: Callable[[], Tensor]


@dataclass(frozen=True)
class Outcome:
    """One network: totals in decades, and the layers or blocks on the way."""

    family: str
    name: str
    seed: int
    depth: int
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Decades a layer."""
        return (self.predicted - self.measured) / self.depth


def start(model: nn.Module, activation: str, how: str) -> nn.Module:
    """Initialize dense layers and convolutions: as PyTorch does, after Xavier, or at criticality."""
    critical = gain(activation)
    for module in model.modules():
        if how == "default" or not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        if how == "xavier":
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        else:
            nn.init.normal_(module.weight, std=critical.std(module.weight[0].numel()))
            nn.init.normal_(module.bias, std=critical.bias_std)
    return model


def mlp(activation: str, how: str, depth: int) -> nn.Module:
    """``depth`` times an activation and the weights after it."""
    layers: list[nn.Module] = [nn.Linear(INPUTS, WIDTH)]
    for layer in range(depth):
        layers += [ACTIVATIONS[activation](), nn.Linear(WIDTH, WIDTH if layer < depth - 1 else CLASSES)]
    return start(nn.Sequential(*layers), activation, how)


def plain_conv(activation: str, how: str, depth: int) -> nn.Module:
    """3×3 convolutions with zero padding."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1)]
    for _ in range(depth):
        layers += [ACTIVATIONS[activation](), nn.Conv2d(64, 64, 3, padding=1)]
    return start(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 64, CLASSES)), activation, how)


def vgg(depth: int) -> nn.Module:
    """Convolutions with batch norm, max pooling, strides, group norm, global average pooling, dropout."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
    for layer in range(depth):
        norm = nn.BatchNorm2d(32) if layer % 2 else nn.GroupNorm(8, 32)
        layers += [norm, nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    layers.insert(4, nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, CLASSES))


class Residual(nn.Module):
    """x + s W₂ φ(W₁ norm(x))."""

    def __init__(self, width: int, activation: str, scale: float, norm: Callable[[int], nn.Module] | None) -> None:
        super().__init__()
        self.norm = norm(width) if norm else nn.Identity()
        self.rise, self.fall = nn.Linear(width, width), nn.Linear(width, width)
        self.phi, self.scale = ACTIVATIONS[activation](), scale

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch."""
        branch: Tensor = self.fall(self.phi(self.rise(self.norm(x))))
        return x + self.scale * branch


class ConvBlock(nn.Module):
    """A residual block of two convolutions with batch norm (He et al. 2015)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        stride = outer // inner
        self.one, self.two = nn.Conv2d(inner, outer, 3, stride, 1), nn.Conv2d(outer, outer, 3, 1, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.short = nn.Conv2d(inner, outer, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch, then cut it off at zero."""
        hidden = functional.relu(self.norms[0](self.one(x)))
        return functional.relu(self.short(x) + self.norms[1](self.two(hidden)))


def residual(activation: str, depth: int, scale: float, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    """Blocks that are added to a stream."""
    blocks = [Residual(WIDTH, activation, scale, norm) for _ in range(depth)]
    return start(nn.Sequential(nn.Linear(INPUTS, WIDTH), *blocks, nn.Linear(WIDTH, CLASSES)), activation, "critical")


def resnet() -> nn.Module:
    """Three stages of three blocks."""
    widths = [16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [ConvBlock(inner, outer) for inner, outer in zip([16, *widths], widths, strict=False)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


def encoder(layers: int, activation: str, *, first: bool) -> nn.Module:
    """PyTorch's own encoder layers, as they are initialized."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, 0.1, activation, norm_first=first, batch_first=True)
    stack = nn.ModuleList([layer] + [type(layer)(128, 4, 512, 0.1, activation, norm_first=first, batch_first=True)
                                     for _ in range(layers - 1)])  # fmt: skip
    return nn.Sequential(nn.Linear(32, 128), *stack, nn.LayerNorm(128), nn.Linear(128, CLASSES))


class Logits(nn.Module):
    """A model of the transformers library that returns what it computes before the loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor) -> Tensor:
        """Give the logits."""
        logits: Tensor = self.model(batch).logits
        return logits


def gpt(layers: int, *, eager: bool = False) -> nn.Module:
    """GPT-2, small, with its own initialization."""
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 - takes seconds

    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(n_layer=layers, n_embd=128, n_head=4, vocab_size=512, **ends)
    config._attn_implementation = "eager" if eager else "sdpa"  # noqa: SLF001 - how transformers names it
    return Logits(GPT2LMHeadModel(config))


def llama(layers: int) -> nn.Module:
    """Llama: RMS norm, gated MLP, rotary positions, grouped queries."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - as above

    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
    return Logits(LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, vocab_size=512, **sizes)))


def vit(layers: int) -> nn.Module:
    """ViT: patches, a class token that the head reads alone."""
    from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415 - as above

    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    return Logits(ViTForImageClassification(ViTConfig(num_hidden_layers=layers, num_labels=CLASSES, **sizes)))


def normed(activation: str, depth: int, norm: Callable[[int], nn.Module]) -> nn.Module:
    """A plain net with a norm before each activation."""
    layers: list[nn.Module] = [nn.Linear(INPUTS, WIDTH)]
    for _ in range(depth):
        layers += [norm(WIDTH), ACTIVATIONS[activation](), nn.Linear(WIDTH, WIDTH)]
    return nn.Sequential(*layers)


def rows() -> Tensor:
    """Inputs of dense nets."""
    return torch.randn(SAMPLES, INPUTS)


def many() -> Tensor:
    """Inputs of nets with batch norm."""
    return torch.randn(128, INPUTS)


def images(size: int = 8, samples: int = 8) -> Callable[[], Tensor]:
    """Inputs of convolutions."""
    return lambda: torch.randn(samples, 3, size, size)


def sequences() -> Tensor:
    """Inputs of encoders."""
    return torch.randn(4, 24, 32)


def tokens() -> Tensor:
    """Inputs of language models."""
    return torch.randint(0, 512, (4, 24))


def cases(depths: tuple[int, ...]) -> Iterator[Case]:
    """Give every network."""
    for activation, how, depth in itertools.product(ACTIVATIONS, STARTS, depths):
        yield Case("MLP", f"{activation}, {how}, {depth}", partial(mlp, activation, how, depth), rows)
    for activation, how, depth in itertools.product(("tanh", "relu", "gelu"), STARTS, (5, 10, 20)):
        yield Case("conv", f"{activation}, {how}, {depth}", partial(plain_conv, activation, how, depth), images())
    for depth in (4, 8):
        yield Case("conv", f"batch and group norm, pooling, {depth}", partial(vgg, depth), images(16, 32))
    yield from residuals()
    yield from transformers()
    yield from others()


def residuals() -> Iterator[Case]:
    """Streams to which branches are added: as they are, scaled, normalized."""
    for activation, depth in itertools.product(("relu", "tanh", "gelu"), (10, 30)):
        for scale, norm in ((1.0, None), (depth**-0.5, None), (1.0, nn.LayerNorm), (1.0, nn.BatchNorm1d)):
            name = f"{activation}, {depth} blocks, scale {scale:.2f}, {norm.__name__ if norm else 'no norm'}"
            batch = many if norm is nn.BatchNorm1d else rows
            yield Case("residual", name, partial(residual, activation, depth, scale, norm), batch)
    yield Case("residual", "ResNet of 9 blocks", resnet, images(16, 32))


def transformers() -> Iterator[Case]:
    """Pre-LN stacks, PyTorch's own and those of the transformers library."""
    family = "pre-LN transformer"
    for layers in (4, 8):
        for activation in ("relu", "gelu"):
            build = partial(encoder, layers, activation, first=True)
            yield Case(family, f"encoder layers, {activation}, {layers}", build, sequences)
        yield Case(family, f"GPT-2, {layers}", partial(gpt, layers), tokens)
    yield Case(family, "GPT-2, eager attention, 4", partial(gpt, 4, eager=True), tokens)
    yield Case(family, "Llama, 4", partial(llama, 4), tokens)
    yield Case(family, "ViT, 4", partial(vit, 4), images(32, 4))


def others() -> Iterator[Case]:
    """Networks that no bound is asked for: the norms and post-LN of the theory's own literature."""
    for activation in ("relu", "tanh", "sigmoid"):
        yield Case("batch norm", f"{activation}, 12", partial(normed, activation, 12, nn.BatchNorm1d), many)
        yield Case("layer norm", f"{activation}, 12", partial(normed, activation, 12, nn.LayerNorm), rows)
    yield Case("post-LN transformer", "encoder layers, 6", partial(encoder, 6, "relu", first=False), sequences)


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    """Cross entropy with labels that have nothing to do with the inputs."""
    logits = model(batch)
    flat = logits.reshape(-1, logits.shape[-1])
    return functional.cross_entropy(flat, torch.arange(len(flat)) % flat.shape[-1])


def look(case: Case, seed: int) -> Outcome:
    """Predict and measure one network."""
    torch.manual_seed(seed)
    model, batch = case.model().double().train(), case.batch()
    batch = batch.double() if batch.is_floating_point() else batch
    theory = expected(model, loss, batch).budget
    real = gd.probe(model, loss, [batch]).budget
    assert real is not None
    assert [row.name for row in theory.rows] == [row.name for row in real.rows]
    return Outcome(case.family, case.name, seed, depth_of(real.rows), theory.total, real.total)


def summary(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    """Median, 95th percentile and largest absolute error of each family."""
    told = {}
    for family in dict.fromkeys(one.family for one in outcomes):
        errors = sorted(abs(one.error) for one in outcomes if one.family == family)
        at = min(round(0.95 * (len(errors) - 1)), len(errors) - 1)
        numbers = {"networks": len(errors), "median": statistics.median(errors), "p95": errors[at], "most": errors[-1]}
        told[family] = numbers
    return told


def table(told: dict[str, dict[str, float]], outcomes: list[Outcome], where: dict[str, Any], seeds: int) -> str:
    """Write it all down."""
    lines = [
        "# Predicted against measured decades a layer",
        "",
        f"{where['time']}, torch {where['torch']}, float64, seeds: {seeds}. Error: difference of the totals over the",
        "layers or blocks; the bounds are those that the benchmark asks for.",
        "",
        "| networks | number | median error | asked | 95th percentile | asked | largest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for family, one in told.items():
        median, tail = (f"{bound:.2f}" for bound in BOUNDS[family]) if family in BOUNDS else ("", "")
        lines.append(
            f"| {family} | {one['networks']:.0f} | {one['median']:.4f} | {median} | {one['p95']:.4f} | {tail} "
            f"| {one['most']:.4f} |"
        )
    lines += ["", "## The furthest off", "", "| network | layers | predicted | measured | error a layer |",
              "|---|---:|---:|---:|---:|"]  # fmt: skip
    for one in sorted(outcomes, key=lambda one: -abs(one.error))[:15]:
        name = f"{one.family}: {one.name}, seed {one.seed}"
        lines.append(f"| {name} | {one.depth} | {one.predicted:+.3f} | {one.measured:+.3f} | {one.error:+.4f} |")
    lines += ["", "## All, means over seeds", "", "| network | layers | predicted | measured |", "|---|---:|---:|---:|"]
    for (family, name), group in _groups(outcomes).items():
        means = [statistics.fmean(getattr(one, key) for one in group) for key in ("predicted", "measured")]
        lines.append(f"| {family}: {name} | {group[0].depth} | {means[0]:+.3f} | {means[1]:+.3f} |")
    return "\n".join([*lines, ""])


def _groups(outcomes: list[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.family, one.name), []).append(one)
    return groups


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="depths 5 and 20 alone, nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    outcomes = []
    for case in cases((5, 20) if given.quick else DEPTHS):
        outcomes += [look(case, seed) for seed in range(given.seeds)]
        one = outcomes[-1]
        print(f"{one.family}: {one.name}: {one.predicted:+.3f} {one.measured:+.3f} {one.error:+.4f}", flush=True)
    told = summary(outcomes)
    print(json.dumps(told, indent=2))
    for family, bounds in BOUNDS.items():
        assert told[family]["median"] <= bounds[0], family
        assert told[family]["p95"] <= bounds[1], family
    if given.quick:
        return
    where = environment()
    where = {"time": str(where.get("time", "")), "torch": torch.__version__}
    data = {"environment": where, "bounds": BOUNDS, "summary": told, "networks": [asdict(one) for one in outcomes]}
    RESULTS.joinpath("prediction.json").write_text(json.dumps(data, indent=1) + "\n")
    RESULTS.joinpath("prediction.md").write_text(table(told, outcomes, where, given.seeds))


if __name__ == "__main__":
    main()
