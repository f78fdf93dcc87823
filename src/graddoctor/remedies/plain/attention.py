"""Normalise queries and keys, each head by itself, so that attention logits stay bounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def add_qk_norms(
    model: nn.Module, names: Iterable[str], head_width: int, *, packed: bool = False
) -> nn.Module:
    """Normalise the queries and keys that the named layers project, one head at a time.

    A logit is then at most √head_width large, whatever the weights grow to. The norm is a
    submodule of its layer (`q_proj` gets `q_proj.norm`), so that no parameter is renamed. A packed
    layer gives queries, keys and values side by side; its values stay as they are.
    """
    for name in names:
        layer: Any = model.get_submodule(name)
        norm = nn.RMSNorm(head_width, eps=1e-6)
        norm.to(layer.weight.device, layer.weight.dtype).train(layer.training)
        layer.add_module("norm", norm)
        layer.register_forward_hook(
            normalise_packed_heads if packed else normalise_heads, prepend=True
        )
    return model


def normalise_heads(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    """Apply the norm of a layer to each head of what it gives."""
    norm: Any = module.norm
    heads = output.reshape(*output.shape[:-1], -1, *norm.normalized_shape)
    normed: torch.Tensor = norm(heads)
    return normed.flatten(-2)


def normalise_packed_heads(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    """Apply the norm of a layer to each head of its queries and keys: two thirds of its output."""
    norm: Any = module.norm
    values = output.shape[-1] // 3
    heads = output[..., :-values].reshape(*output.shape[:-1], -1, *norm.normalized_shape)
    return torch.cat([norm(heads).flatten(-2), output[..., -values:]], -1)
