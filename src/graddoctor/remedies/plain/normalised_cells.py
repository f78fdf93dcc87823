"""Recurrent layers whose every step is normalised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def normalise_cells(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Normalise what each step of the named recurrent layers is computed from (Ba et al. 2016).

    Layers of one direction keep their parameters and the way they are called. Each gate's product
    is brought to mean 0 and variance 1 over its units and multiplied by a gain; the biases, that
    of a forget gate among them, are added after it. The memory of an LSTM is normalised where it
    is read. Steps run one by one. Gains are in the new submodule `norms`.
    """
    for name in names:
        module: Any = model.get_submodule(name)
        like = {"device": module.weight_hh_l0.device, "dtype": module.weight_hh_l0.dtype}
        norms = [norms_of_layer(module, like) for _ in range(module.num_layers)]
        module.norms = nn.ModuleList(norms).train(module.training)
        module.forward = NormalisedForward(module)
    return model


def norms_of_layer(module: Any, like: dict[str, Any]) -> nn.ModuleDict:
    """Make the norms of one layer: those of its gates and, of an LSTM, of its memory."""
    size = module.hidden_size
    if isinstance(module, nn.LSTM):
        return nn.ModuleDict(
            {"gates": GateNorm(4, size, like), "memory": nn.LayerNorm(size, **like)}
        )
    if isinstance(module, nn.GRU):
        return nn.ModuleDict(
            {"gates": GateNorm(2, size, like), "candidate": GateNorm(1, size, like)}
        )
    return nn.ModuleDict({"gates": GateNorm(1, size, like)})


class GateNorm(nn.Module):
    """A LayerNorm of its own for each of several gates in one vector, with gains and no bias."""

    def __init__(self, gates: int, size: int, like: dict[str, Any]) -> None:
        super().__init__()
        self.gates, self.size = gates, size
        self.weight = nn.Parameter(torch.ones(gates * size, **like))

    def forward(self, products: torch.Tensor) -> torch.Tensor:
        """Normalise the products of each gate."""
        apart = products.view(*products.shape[:-1], self.gates, self.size)
        return functional.layer_norm(apart, (self.size,)).flatten(-2) * self.weight


class NormalisedForward:
    """A recurrent layer's forward, step by step with norms."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, input: torch.Tensor, hx: Any = None) -> Any:  # noqa: A002
        """Run over a sequence, or a batch of them."""
        module, batched = self.module, input.ndim == 3
        axis = int(module.batch_first) if batched else 1
        x = input.transpose(0, axis) if batched else input.unsqueeze(1)
        paired = isinstance(module, nn.LSTM)
        if hx is None:
            zeros = x.new_zeros(module.num_layers, x.shape[1], module.hidden_size)
            given = (zeros, zeros) if paired else (zeros,)
        else:
            given = tuple(s if batched else s.unsqueeze(1) for s in (hx if paired else (hx,)))
        lasts = []
        for layer in range(module.num_layers):
            x = functional.dropout(x, module.dropout, module.training) if layer else x
            x, last = normalised_steps(module, layer, x, tuple(state[layer] for state in given))
            lasts.append(last)
        states = tuple(torch.stack(kind) for kind in zip(*lasts, strict=True))
        states = states if batched else tuple(state.squeeze(1) for state in states)
        output = x.transpose(0, axis) if batched else x.squeeze(1)
        return output, (states if paired else states[0])


def normalised_steps(
    module: Any, layer: int, x: torch.Tensor, state: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Run one layer over its inputs (steps, batch, features)."""
    weight = getattr(module, f"weight_hh_l{layer}")
    biases = [getattr(module, f"bias_{kind}_l{layer}") for kind in ("ih", "hh") if module.bias]
    biases = biases or [weight.new_zeros(len(weight))] * 2
    step = STEPS[module.mode]
    outputs = []
    for entering in functional.linear(x, getattr(module, f"weight_ih_l{layer}")).unbind(0):
        state = step(module.norms[layer], entering, weight, biases, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def lstm_step(norms: Any, entering: Any, weight: Any, biases: Any, state: Any) -> Any:
    """Make a step of an LSTM."""
    hidden, memory = state
    products = norms["gates"](entering + functional.linear(hidden, weight))
    entrance, kept, new, out = (products + biases[0] + biases[1]).chunk(4, -1)
    memory = kept.sigmoid() * memory + entrance.sigmoid() * new.tanh()
    return out.sigmoid() * norms["memory"](memory).tanh(), memory


def gru_step(norms: Any, entering: Any, weight: Any, biases: Any, state: Any) -> Any:
    """Make a step of a GRU; as in PyTorch, the reset gate acts on the product with the state."""
    (hidden,), size = state, weight.shape[1]
    recurrent = functional.linear(hidden, weight)
    products = norms["gates"]((entering + recurrent)[..., : 2 * size])
    both = (biases[0] + biases[1])[: 2 * size]
    reset, kept = (products + both).sigmoid().chunk(2, -1)
    recalled = reset * (recurrent[..., 2 * size :] + biases[1][2 * size :])
    new = norms["candidate"](entering[..., 2 * size :] + recalled) + biases[0][2 * size :]
    return (torch.lerp(new.tanh(), hidden, kept),)


def tanh_step(norms: Any, entering: Any, weight: Any, biases: Any, state: Any) -> Any:
    """Make a step of an RNN with tanh."""
    products = norms["gates"](entering + functional.linear(state[0], weight))
    return (torch.tanh(products + biases[0] + biases[1]),)


def relu_step(norms: Any, entering: Any, weight: Any, biases: Any, state: Any) -> Any:
    """Make a step of an RNN with ReLU."""
    products = norms["gates"](entering + functional.linear(state[0], weight))
    return (torch.relu(products + biases[0] + biases[1]),)


STEPS = {"LSTM": lstm_step, "GRU": gru_step, "RNN_TANH": tanh_step, "RNN_RELU": relu_step}
