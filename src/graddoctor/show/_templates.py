"""The templates of this folder, with the few filters that they share."""

from __future__ import annotations

import functools

import jinja2

from graddoctor.show import words


@functools.cache
def template(name: str) -> jinja2.Template:
    """Load a template of this folder; whatever is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("graddoctor.show"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["minus"] = words.minus
    environment.filters["begun"] = words.begun
    return environment.get_template(name)
