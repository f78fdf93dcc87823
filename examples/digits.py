"""The data of the examples: 1,797 handwritten digits, 8 x 8 pixels each, that ship with scikit-learn."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

pixels, digits = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).div(16).reshape(-1, 1, 8, 8)
labels = torch.tensor(digits)
TRAIN, TEST = slice(0, 1500), slice(1500, None)


def batches() -> DataLoader:
    return DataLoader(TensorDataset(images[TRAIN], labels[TRAIN]), batch_size=64, shuffle=True)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, targets = batch
    return cross_entropy(model(inputs), targets)


def accuracy(model: nn.Module) -> float:
    device = next(model.parameters()).device
    return (model(images[TEST].to(device)).argmax(dim=1).cpu() == labels[TEST]).float().mean().item()
