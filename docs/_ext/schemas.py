"""The directive `json-schema FILE`: the members of a report's JSON, as tables, from the schema that is shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("json-schema", JsonSchema)
    return {"parallel_read_safe": True}


class JsonSchema(SphinxDirective):
    """A section for the object itself, and one for each object within it."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Write the tables down as a page would, and have them parsed."""
        name = self.arguments[0]
        schema = json.loads(files("graddoctor.show").joinpath(name).read_text(encoding="utf-8"))
        lines = ["### The object itself", "", schema["description"], "", *_members(schema)]
        for kind, one in schema["$defs"].items():
            if "properties" in one:
                lines += [f"### {kind}", "", one.get("description", ""), "", *_members(one)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _members(schema: Mapping[str, Any]) -> Iterator[str]:
    always = set(schema.get("required", ()))
    yield from ("| member | type | what it holds |", "| --- | --- | --- |")
    for name, one in schema["properties"].items():
        told = one.get("description", "").replace("|", "\\|").replace("\n", " ")
        yield f"| `{name}` | {_type(one)}{'' if name in always else ', may be missing'} | {told} |"
    yield ""


def _type(one: Mapping[str, Any]) -> str:
    if "$ref" in one:
        return str(one["$ref"]).rpartition("/")[2]
    if "const" in one:
        return f"`{json.dumps(one['const'])}`"
    if "enum" in one:
        return ", ".join(f"`{json.dumps(value)}`" for value in one["enum"])
    if "anyOf" in one:
        return " or ".join(map(_type, one["anyOf"]))
    kinds = one.get("type", "any")
    kinds = " or ".join(kinds) if isinstance(kinds, list) else kinds
    return f"{kinds} of {_type(one['items'])}" if isinstance(one.get("items"), dict) and one["items"] else str(kinds)
