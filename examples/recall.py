"""Sick on purpose: an LSTM that is to remember for sixty steps, with the gates that PyTorch gives it.

The first vector of a sequence says which of four classes it is, noise follows. A forget gate that starts half open
loses half of its memory at every step: of the gradient, less than a thousandth comes back over a dozen. With gates that
start open (a bias of 4 on the forget gate, or chrono initialization) the same network learns it by heart.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from graddoctor import Recipe

STEPS, CLASSES, WIDTH = 60, 4, 32


def sequences(count: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    inputs = 0.5 * torch.randn(count, STEPS, CLASSES, generator=draw)
    inputs[:, 0] = nn.functional.one_hot(labels, CLASSES).float()
    return TensorDataset(inputs, labels)


TRAINING, HELD_OUT = sequences(1024, seed=0), sequences(256, seed=1)


class Recall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(CLASSES, WIDTH, batch_first=True)
        self.answer = nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        states, _ = self.memory(inputs)
        return self.answer(states[:, -1])


def loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
    inputs, labels = batch
    return cross_entropy(model(inputs), labels)


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    device = next(model.parameters()).device
    inputs, labels = (tensor.to(device) for tensor in HELD_OUT.tensors)
    return float((model(inputs).argmax(1) == labels).float().mean())


recipe = Recipe(
    model=Recall,
    loss=loss,
    batches=lambda: DataLoader(TRAINING, batch_size=64, shuffle=True),
    optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    evaluate=accuracy,
    epochs=12,
)
