"""Sound on purpose: cats and dogs, or any folder of pictures with one subfolder a class, read through Pillow.

Three convolutions with batch normalization. Without a folder, pictures are drawn (``draw_cats_and_dogs.py``), so that
the classic example runs without a download. Bring your own:

    graddoctor check examples/images.py FOLDER
    GRADDOCTOR_IMAGES=FOLDER graddoctor check examples/images.py

``Pictures`` is a plain torch Dataset; what you already load with serves as well:

    from torchvision.datasets import ImageFolder
    data = ImageFolder(FOLDER, transform=v2.Compose([v2.Resize((SIZE, SIZE)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]))

    from datasets import load_dataset
    data = load_dataset("imagefolder", data_dir=FOLDER, split="train").with_transform(lambda rows: {...})
"""  # noqa: E501 - code to copy stays on its line

import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

import draw_cats_and_dogs
from graddoctor import Recipe

SIZE = 32
given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("GRADDOCTOR_IMAGES")
FOLDER = Path(given) if given else draw_cats_and_dogs.draw(Path(tempfile.gettempdir(), "cats_and_dogs"))


class Pictures(Dataset[tuple[Tensor, int]]):
    """Every picture below ``folder/class/``, as numbers around zero, with the index of its class."""

    def __init__(self, folder: Path) -> None:
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.paths = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in Image.registered_extensions())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.paths[index]
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((SIZE, SIZE))
        pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3)
        return pixels.permute(2, 0, 1) / 127.5 - 1, self.classes.index(path.parent.name)


data = Pictures(FOLDER)


def build() -> nn.Module:
    widths = [3, 16, 32, 32]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * (SIZE // 8) ** 2, len(data.classes)))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    pictures, classes = batch
    return cross_entropy(model(pictures), classes)


recipe = Recipe(
    model=build,
    loss=loss,
    batches=lambda: DataLoader(data, batch_size=16, shuffle=True),
    optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
    epochs=8,
)
