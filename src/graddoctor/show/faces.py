"""The faces that whatever can be reported has in common: text, notebooks, JSON and files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graddoctor.show.cure import AnyReport


class Faces(ABC):
    """Shows what `report` gives; each face is imported when it is asked for, since the faces know the reports."""

    @abstractmethod
    def report(self) -> AnyReport:
        """Return it as plain data that every face shows."""

    def save(self, path: str | Path) -> None:
        """Write the report; the suffix decides: ``.html``, ``.json``, ``.md``, ``.txt``, ``.png`` or ``.svg``."""
        from graddoctor.show.save import save  # noqa: PLC0415

        save(self.report(), path)

    def to_json(self) -> str:
        """Return the report as JSON."""
        from graddoctor.show.serial import to_json  # noqa: PLC0415

        return to_json(self.report())

    def __str__(self) -> str:
        from graddoctor.show.text import to_text  # noqa: PLC0415

        return to_text(self.report())

    def _repr_html_(self) -> str:
        from graddoctor.show.notebook import notebook_html  # noqa: PLC0415

        return notebook_html(self.report())

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        from graddoctor.show.notebook import mimebundle  # noqa: PLC0415

        return mimebundle(self.report(), include, exclude)
