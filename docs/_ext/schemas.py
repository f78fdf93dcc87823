"""The directive `json-schemas`: the members of every report's JSON, as tables, from the schemas that are shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("json-schemas", JsonSchemas)
    return {"parallel_read_safe": True}


class JsonSchemas(SphinxDirective):
    """A section for each schema, and within it one for each object."""

    def run(self) -> list[nodes.Node]:
        """Write the tables down as a page would, and have them parsed."""
        shipped = [file for file in files("graddoctor.show").iterdir() if file.name.endswith("schema.json")]
        lines: list[str] = []
        for file in sorted(shipped, key=lambda file: (file.name != "schema.json", file.name)):
            schema = json.loads(file.read_text(encoding="utf-8"))
            lines += [f"## `{file.name}`", "", schema["description"], "", *_members(schema)]
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
