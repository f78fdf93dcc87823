"""A picture as the page has it: a figure, what can be set in it, and what it says at every setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graddoctor.explain.picture import Control, Picture
from graddoctor.lab.table import Table
from graddoctor.show._page import Figure, figure
from graddoctor.show.words import minus

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True)
class Lively:
    """A figure, its controls, and what it says, by the places of the controls' values: ``"2|0"``."""

    figure: Figure
    controls: tuple[Control, ...]
    said: dict[str, str]

    @property
    def first(self) -> str:
        """What it says at first."""
        return self.said[_key(self.controls, {control.name: control.start for control in self.controls})]

    def settings(self) -> dict[str, Any]:
        """What the page's script needs: values of the chart's parameters, how they are said, what follows from them."""
        return {
            "controls": {control.name: control.values for control in self.controls},
            "units": {control.name: [control.said(value) for value in control.values] for control in self.controls},
            "said": self.said,
        }


def lively(picture: Picture, table: Table) -> Lively:
    """Draw a picture, and have it say what it shows at every setting."""
    told = {
        _key(picture.controls, setting): minus(raised(picture.told(table, **setting))) for setting in picture.settings()
    }
    drawn = figure(picture.name, picture.title, picture.draw(table), picture.caption)
    return Lively(drawn, picture.controls, told)


def _key(controls: tuple[Control, ...], setting: Mapping[str, Any]) -> str:
    return "|".join(str(control.values.index(setting[control.name])) for control in controls)


def raised(text: str) -> str:
    """Set powers of ten as such."""
    return re.sub(r"\b(10|2)\^(-?\d+)", lambda power: f"{power[1]}{power[2].translate(_RAISED)}", text)
