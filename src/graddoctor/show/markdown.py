"""A report as GitHub-flavoured Markdown: for issues, pull requests and job summaries."""

from __future__ import annotations

from graddoctor.show import checkup_markdown, cure_markdown
from graddoctor.show.cure import AnyReport, CureReport


def to_markdown(report: AnyReport) -> str:
    """Give a report as Markdown; names of modules cannot break out of it."""
    blocks = cure_markdown.blocks(report) if isinstance(report, CureReport) else checkup_markdown.blocks(report)
    return "\n\n".join(blocks) + "\n"
