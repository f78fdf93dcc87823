"""Put normalizations behind layers, and before the branches of transformer layers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def add_norms(
    model: nn.Module, names: Iterable[str], replacement: type[nn.Module], **options: Any
) -> nn.Module:
    """Normalise what each named layer gives, before its nonlinearity.

    The norm is a submodule of its layer (`fc1` gets `fc1.norm`), so that no parameter is renamed.
    It is made for as many features or channels as the layer has; `groups` of a GroupNorm are
    fewer where they do not divide these.
    """
    for name in names:
        layer: Any = model.get_submodule(name)
        width = getattr(layer, "out_features", None) or layer.out_channels
        if issubclass(replacement, nn.GroupNorm):
            norm: nn.Module = replacement(math.gcd(options["groups"], width), width)
        else:
            norm = replacement(width, **options)
        norm.to(layer.weight.device, layer.weight.dtype).train(layer.training)
        layer.add_module("norm", norm)
        layer.register_forward_hook(normalise_output, prepend=True)
    return model


def normalise_output(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    """Apply the norm of a layer; a batch of one is normalised by the running statistics."""
    norm: Any = module.norm
    batch_norm = isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    if batch_norm and norm.training and output.numel() == output.shape[1]:
        running = norm.running_mean, norm.running_var
        return functional.batch_norm(output, *running, norm.weight, norm.bias, eps=norm.eps)
    normalised: torch.Tensor = norm(output)
    return normalised


def pre_norm(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Normalise before the branches of the named transformer layers, not after the additions.

    The stack that they stand in gets a norm at its end where it has none.
    """
    layers: list[Any] = [model.get_submodule(name) for name in names]
    for layer in layers:
        layer.norm_first = True
    for stack in model.modules():
        if not isinstance(stack, nn.TransformerEncoder | nn.TransformerDecoder):
            continue
        last: Any = stack.layers[-1]
        if all(layer is not last for layer in layers):
            continue
        stack.use_nested_tensor = False  # a short cut for the other order
        if stack.norm is None:
            like = {"device": last.norm1.weight.device, "dtype": last.norm1.weight.dtype}
            stack.norm = nn.LayerNorm(last.norm1.normalized_shape, last.norm1.eps, **like)
            stack.norm.train(stack.training)
    return model
