"""Sound on purpose: ten convolutions as in ``plain_cnn.py``, but normalized, and each pair bypassed by a skip.

Along the skips the gradient reaches every block whole, whatever the weights are, and batch normalization keeps each
branch at a size that can be learned from.
"""

import torch
from torch import Tensor, nn

import digits
from graddoctor import Recipe

BLOCKS, CHANNELS = 5, 16


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, kernel_size=3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def build() -> nn.Module:
    stem = nn.Conv2d(1, CHANNELS, kernel_size=3, padding=1, bias=False)
    head = [nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * CHANNELS, 10)]
    return nn.Sequential(stem, *(Block() for _ in range(BLOCKS)), *head)


recipe = Recipe(
    model=build,
    loss=digits.loss,
    batches=digits.batches,
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    evaluate=digits.accuracy,
    epochs=8,
)
