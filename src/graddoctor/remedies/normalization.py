"""Normalizations where there are none, and before the branches of transformer layers instead of behind them."""

from __future__ import annotations

from typing import Any

from torch import nn

from graddoctor.errors import GraddoctorError
from graddoctor.remedies.anatomy import Anatomy, Site, frozen
from graddoctor.remedies.edit import Edit
from graddoctor.remedies.facts import Facts
from graddoctor.remedies.plain.norms import add_norms, pre_norm
from graddoctor.remedies.remedy import Remedy
from graddoctor.terms import Cause

SMALLEST_BATCH = 8
"""Statistics of fewer samples than this are too noisy for a BatchNorm (Wu and He 2018)."""

GROUPS = 32
"""Groups of a GroupNorm, as in Wu and He 2018; fewer where they do not divide the channels."""

_CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: tuple[type[nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LABELS = {
    "batch": ("BatchNorm", "Ioffe and Szegedy 2015"),
    "layer": ("LayerNorm", "Ba et al. 2016"),
    "rms": ("RMSNorm", "Zhang and Sennrich 2019"),
    "group": ("GroupNorm", "Wu and He 2018"),
}
_Norm = tuple[type[nn.Module], tuple[tuple[str, Any], ...]]


def normalised(facts: Facts, kind: str | None = None) -> Remedy | None:
    """Normalise what each hidden layer gives, before its nonlinearity.

    Parameters
    ----------
    kind
        ``"batch"``, ``"layer"``, ``"rms"`` or ``"group"``; left out, BatchNorm where the batches have 8 samples or
        more and a layer is called once in a pass on samples without positions, LayerNorm for other linear layers,
        GroupNorm for other convolutions. On the channels of images a LayerNorm is a GroupNorm with one group, and an
        RMSNorm is one too.

    Returns
    -------
    ``None`` where no layer lacks one: layers whose product meets a nonlinearity and no normalization on the way. So it
    is, too, where the network has as many normalizations as such layers: then it normalises elsewhere, as pre-norm
    residual networks do.

    Raises
    ------
    GraddoctorError
        For another `kind`.
    """
    if kind is not None and kind not in _LABELS:
        msg = f"kind: expected one of {', '.join(map(repr, _LABELS))}, got {kind!r}"
        raise GraddoctorError(msg)
    if facts.anatomy is None:
        return None
    sites = lacking(facts.anatomy, facts.model)
    if len(sites) <= facts.anatomy.survey.normalizations:
        return None
    groups: dict[_Norm, list[str]] = {}
    for site in sites:
        norm = _norm_for(facts, site, kind)
        if norm is not None:
            groups.setdefault(norm, []).append(site.point)
    edits = [
        Edit("model", add_norms, {"names": tuple(names), "replacement": norm, **dict(options)})
        for (norm, options), names in groups.items()
    ]
    if not edits:
        return None
    return _remedy(facts.model, edits, groups)


def lacking(body: Anatomy, model: nn.Module) -> tuple[Site, ...]:
    """Hidden nonlinearities that are given what a linear layer or a convolution that is trained gives, as it is."""
    found: dict[str, Site] = {}
    for site in body.hidden:
        layer = model.get_submodule(site.point) if site.point and not frozen(model, site.point) else None
        if isinstance(layer, (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)) and not hasattr(layer, "norm"):
            found.setdefault(site.point, site)
    return tuple(found.values())


def _norm_for(facts: Facts, site: Site, kind: str | None) -> _Norm | None:
    """Choose the norm of one layer; ``None`` where its output has no axis for samples."""
    body, layer = facts.anatomy, facts.model.get_submodule(site.point)
    dense = isinstance(layer, nn.Linear)
    axes = 1 if dense else _dimensions(layer) + 1
    if len(site.shape) < axes + 1:
        return None
    seen = body.layer(site.point) if body else None
    ordinary = len(site.shape) == axes + 1 and (seen is None or seen.calls == 1)
    many = site.shape[0] >= SMALLEST_BATCH
    if kind == "batch" and not (ordinary and many):
        return None
    kind = kind or ("batch" if ordinary and many else "layer" if dense else "group")
    if kind == "batch":
        return _BATCH_NORMS[0 if dense else _dimensions(layer) - 1], ()
    if kind == "group" or not dense:
        return nn.GroupNorm, (("groups", GROUPS if kind == "group" else 1),)
    return (nn.RMSNorm if kind == "rms" else nn.LayerNorm), ()


def _dimensions(layer: nn.Module) -> int:
    kinds = zip(_CONVOLUTIONS, _TRANSPOSED, strict=True)
    return next(k for k, pair in enumerate(kinds, start=1) if isinstance(layer, pair))


def _remedy(model: nn.Module, edits: list[Edit], groups: dict[_Norm, list[str]]) -> Remedy:
    names = tuple(name for group in groups.values() for name in group)
    labels = [_LABELS[label] for label in dict.fromkeys(_label(norm) for norm, _ in groups)]
    count = sum(
        (1 if norm is nn.RMSNorm else 2) * _width(model.get_submodule(name))
        for (norm, _), group in groups.items()
        for name in group
    )
    return Remedy.written(
        f"{' and '.join(label for label, _ in labels)} after {len(names)} layer{'s' * (len(names) > 1)}",
        (Cause.NORMALIZATION,),
        edits,
        source="; ".join(source for _, source in labels),
        modules=names,
        cost=f"{count} parameters, a pass over the values of each layer",
    )


def _label(norm: type[nn.Module]) -> str:
    if norm in _BATCH_NORMS:
        return "batch"
    return "layer" if norm is nn.LayerNorm else "rms" if norm is nn.RMSNorm else "group"


def _width(layer: Any) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def pre_layernorm(facts: Facts) -> Remedy | None:
    """Normalise before the branches of transformer layers, instead of after their additions.

    ``None`` where there is no ``nn.TransformerEncoderLayer`` or ``nn.TransformerDecoderLayer`` that does it after.

    Source: Xiong et al. 2020: after the additions, gradients near the output are large at the start, and a warm-up is
    needed.
    """
    kinds = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    layers = {name: m for name, m in facts.model.named_modules() if isinstance(m, kinds) and not m.norm_first}
    if not layers:
        return None
    names = tuple(layers)
    edit = Edit("model", pre_norm, {"names": names})
    cost = "a normalization at the end of the stack"
    return Remedy.written(
        "normalization before each branch",
        (Cause.NORMALIZATION,),
        (edit,),
        source="Xiong et al. 2020",
        modules=names,
        cost=cost,
    )
