"""The directive `command-line`: every verb, argument and flag, read off the application itself as the page is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from graddoctor.cli import app as application


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}


class CommandLine(SphinxDirective):
    """One section a verb, and an entry with an anchor for each of its flags."""

    def run(self) -> list[nodes.Node]:
        """Write the sections down as a page would, and have them parsed."""
        group: Any = typer.main.get_command(application)
        lines = [line for name, verb in group.commands.items() for line in _verb(name, verb)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _verb(name: str, verb: Any) -> Iterator[str]:
    arguments = [one for one in verb.params if one.param_type_name == "argument"]
    options = [one for one in verb.params if one.param_type_name == "option"]
    usage = " ".join([f"graddoctor {name}", *(_usage(one) for one in arguments), "[OPTIONS]"])
    yield from (f"## `{name}`", "", verb.help, "", "```text", usage, "```", "", "```{eval-rst}")
    yield from (f".. program:: graddoctor {name}", "")
    for one in arguments:
        yield from (f".. option:: {one.metavar.strip('[].')}", "", f"   {_said(one.help)}", "")
    for one in options:
        names = ", ".join(f"{flag} {one.metavar}" if one.metavar else flag for flag in (*one.opts, *one.secondary_opts))
        yield from (f".. option:: {names}", "", f"   {_said(one.help)}", "")
    yield from ("```", "")


def _usage(argument: Any) -> str:
    return argument.metavar if argument.required or argument.metavar.startswith("[") else f"[{argument.metavar}]..."


def _said(text: str) -> str:
    """Keep what looks like markup as it is printed in a terminal."""
    return text.replace("\\", "\\\\").replace("`", "``").replace("*", "\\*").replace(":", "\\:")
