"""Saving a report: the suffix of the path says as what."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from graddoctor.errors import GraddoctorError
from graddoctor.show.cure import AnyReport
from graddoctor.show.markdown import to_markdown
from graddoctor.show.serial import to_json
from graddoctor.show.text import to_text


def save(report: AnyReport, path: str | Path) -> Path:
    """Write a report to a file: ``.html``, ``.json``, ``.md`` or ``.txt``; ``.svg`` and ``.png`` hold its main picture.

    That picture is the gradient budget of a checkup, and of a cure the budgets before and after it.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    GraddoctorError
        When the suffix is another one, the path cannot be written, or there is nothing to draw.
    """
    target = Path(path)
    content = _writer(target)(report)
    try:
        target.write_bytes(content)
    except OSError as problem:
        raise _unwritable(target, problem) from None
    return target


def check_writable(path: str | Path, *, also: Collection[str] = ()) -> Path:
    """Make sure that a report can be saved there later: call it before training, not after. Leaves no trace.

    Parameters
    ----------
    also
        Suffixes of files that the caller writes itself.

    Raises
    ------
    GraddoctorError
        When the suffix is unknown, or the path cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in also:
        _writer(target, also)
    if target.is_dir():
        raise GraddoctorError(f"cannot write the report to {str(target)!r}: it is a folder")
    if not target.parent.is_dir():
        folder = str(target.parent)
        raise GraddoctorError(f"cannot write the report to {str(target)!r}: make the folder {folder!r} first")
    try:
        if target.exists():
            with target.open("ab"):
                pass
        else:
            with tempfile.TemporaryFile(dir=target.parent):
                pass
    except OSError as problem:
        raise _unwritable(target, problem) from None
    return target


def _writer(target: Path, also: Collection[str] = ()) -> Callable[[AnyReport], bytes]:
    writer = _WRITERS.get(target.suffix.lower())
    if writer is None:
        known = " ".join([*also, *_WRITERS])
        raise GraddoctorError(f"cannot save a report as {str(target)!r}: its name should end in one of {known}")
    return writer


def _unwritable(target: Path, problem: OSError) -> GraddoctorError:
    return GraddoctorError(f"cannot write the report to {str(target)!r}: {problem.strerror or problem}")


def _html(report: AnyReport) -> bytes:
    from graddoctor.show.html import to_html  # noqa: PLC0415 - loads the chart libraries, which not every run needs

    return to_html(report).encode()


def _picture(report: AnyReport, suffix: str) -> bytes:
    import vl_convert  # noqa: PLC0415 - as above

    from graddoctor.show.pictures import picture  # noqa: PLC0415 - as above

    spec = picture(report).to_json()
    if suffix == ".svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=2))


_WRITERS: dict[str, Callable[[AnyReport], bytes]] = {
    ".html": _html,
    ".json": lambda report: f"{to_json(report)}\n".encode(),
    ".md": lambda report: to_markdown(report).encode(),
    ".txt": lambda report: to_text(report).encode(),
    ".svg": lambda report: _picture(report, ".svg"),
    ".png": lambda report: _picture(report, ".png"),
}
