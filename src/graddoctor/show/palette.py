"""Colours: one set for light paper, one for dark, each readable on it (WCAG AA, as tests hold)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Palette:
    """The colours of a face by what they mean.

    ``lost`` and ``gained`` are decades; ``good``, ``warn`` and ``bad`` verdicts and severities; ``soft`` fills areas.
    """

    paper: str
    card: str
    ink: str
    quiet: str
    line: str
    soft: str
    accent: str
    lost: str
    gained: str
    good: str
    warn: str
    bad: str

    def css(self) -> str:
        """Declare the colours as custom properties of a style sheet."""
        return "".join(f"--{name}:{value};" for name, value in asdict(self).items())


LIGHT = Palette(
    paper="#fbfaf7",
    card="#ffffff",
    ink="#1d1c1a",
    quiet="#5d5a54",
    line="#e3dfd6",
    soft="#efece5",
    accent="#3a4fa3",
    lost="#b2402f",
    gained="#1b6d93",
    good="#23704a",
    warn="#8a5a00",
    bad="#a8322a",
)
DARK = Palette(
    paper="#151618",
    card="#1c1e21",
    ink="#eae8e3",
    quiet="#a6a39c",
    line="#33363b",
    soft="#26292d",
    accent="#9db2ff",
    lost="#ee8a78",
    gained="#74bbe0",
    good="#76c898",
    warn="#e0b25a",
    bad="#f28b80",
)
PAGE = Palette(**{field.name: f"var(--{field.name})" for field in fields(Palette)})
"""Colours that the page's style sheet decides on: its charts follow light, dark and print without being drawn anew."""

DEPTHS = ("#8a63d2", "#2f9e97", "#c98a1b")
"""From the input to the loss, for lines: of middling lightness, so that they stand out from light and dark paper."""

SERIES = ("#3f7fcf", "#c9722b", "#2f9270", "#8a63d2", "#c9504f", "#857d70", "#b0559e")
"""For lines and bars that stand for names: three to one and more against light and dark paper."""

FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def config(palette: Palette) -> dict[str, Any]:
    """Vega-Lite configuration that every chart shares: quiet axes, no frame, legends above."""
    return {
        "background": "transparent" if palette is PAGE else palette.paper,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": palette.quiet,
            "titleColor": palette.quiet,
            "titleFontWeight": "normal",
            "gridColor": palette.line,
            "domainColor": palette.line,
            "tickColor": palette.line,
            "labelFontSize": 11,
            "titleFontSize": 11,
        },
        "legend": {
            "orient": "top",
            "titleColor": palette.quiet,
            "labelColor": palette.ink,
            "titleFontWeight": "normal",
            "titleFontSize": 11,
            "labelFontSize": 11,
            "symbolStrokeWidth": 2,
            "gradientLength": 160,
            "gradientThickness": 8,
        },
        "title": {"color": palette.ink, "anchor": "start", "fontSize": 13, "fontWeight": 600},
        "text": {"color": palette.ink},
    }
