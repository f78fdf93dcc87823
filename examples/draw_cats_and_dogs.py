"""Draw a small data set of cats and dogs: ``python examples/draw_cats_and_dogs.py FOLDER``.

Cats have pointed ears and whiskers, dogs hanging ears and a tongue; colour, size, place and background vary, so that
only ears, whiskers and tongue tell them apart.
"""

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 64


def draw(folder: Path, each: int = 100) -> Path:
    """Draw ``each`` pictures of either animal into ``folder/cats`` and ``folder/dogs``; the same ones every time."""
    dice = random.Random(0)  # noqa: S311 - pictures, no secrets
    for name, animal in (("cats", cat), ("dogs", dog)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture = Image.new("RGB", (SIZE, SIZE), colour(dice))
            animal(ImageDraw.Draw(picture), dice)
            picture.save(folder / name / f"{number:03}.png")
    return folder


def cat(pen: ImageDraw.ImageDraw, dice: random.Random) -> None:
    x, y, r, fur = head(dice)
    for side in (-1, 1):
        ear = [(x + side * r, y - 1.5 * r), (x + side * 0.95 * r, y - 0.2 * r), (x + side * 0.2 * r, y - 0.9 * r)]
        pen.polygon(ear, fill=fur)
    face(pen, x, y, r, fur)
    for side in (-1, 1):
        for lift in (-0.2, 0.05, 0.3):
            pen.line([(x + side * 0.3 * r, y + 0.35 * r), (x + side * 1.3 * r, y + (0.35 + lift) * r)], fill="black")


def dog(pen: ImageDraw.ImageDraw, dice: random.Random) -> None:
    x, y, r, fur = head(dice)
    pen.ellipse([x - 0.25 * r, y + 0.4 * r, x + 0.25 * r, y + 1.4 * r], fill="crimson")
    face(pen, x, y, r, fur)
    dark = tuple(channel // 2 for channel in fur)
    for side in (-1, 1):
        ear = sorted((x + side * 0.7 * r, x + side * 1.3 * r))
        pen.ellipse([ear[0], y - 0.8 * r, ear[1], y + 0.8 * r], fill=dark)


def head(dice: random.Random) -> tuple[float, float, float, tuple[int, int, int]]:
    """Choose where a head is, its radius and its fur."""
    r = dice.uniform(0.2, 0.28) * SIZE
    return dice.uniform(1.4 * r, SIZE - 1.4 * r), dice.uniform(1.6 * r, SIZE - 1.5 * r), r, colour(dice)


def face(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, fur: tuple[int, int, int]) -> None:
    pen.ellipse([x - r, y - r, x + r, y + r], fill=fur)
    for side in (-1, 1):
        eye = x + side * 0.4 * r
        pen.ellipse([eye - 0.15 * r, y - 0.3 * r, eye + 0.15 * r, y], fill="black")
    pen.ellipse([x - 0.15 * r, y + 0.2 * r, x + 0.15 * r, y + 0.45 * r], fill="black")


def colour(dice: random.Random) -> tuple[int, int, int]:
    return dice.randint(60, 255), dice.randint(60, 255), dice.randint(60, 255)


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "cats_and_dogs"))
