"""A badge: what shields.io reads from an endpoint (JSON), or the picture itself (SVG)."""

from __future__ import annotations

import json

from infonce_ref.conformance.report.html import template
from infonce_ref.conformance.report.model import Run
from infonce_ref.conformance.report.text import visible

COLORS = {0: "#2a7f62", 1: "#b3261e"}  # white on them has a contrast above 4.5
OTHER = "#6b5b00"
SHORTEST = 6.2  # pixels of a character of 11 px Verdana, about; textLength makes it exact


def message(run: Run) -> str:
    """A few words: what is met, or how much of it."""
    required = run.header["required"]
    names = "all profiles" if len(required) > 3 else ", ".join(map(str, required))
    if run.conforms:
        return names
    if run.exit == 1:
        return f"{run.met}/{len(run.scores)} clauses of {names}"
    return "stale known failures" if run.exit == 4 else "incomplete"


def label(run: Run) -> str:
    return f"{run.header['loss']} conformance"


def endpoint(run: Run) -> str:
    """JSON after https://shields.io/badges/endpoint-badge."""
    words = {"label": visible(label(run), one_line=True), "message": visible(message(run), one_line=True)}
    content = {"schemaVersion": 1, **words, "color": COLORS.get(run.exit, OTHER).lstrip("#"), "isError": run.exit > 1}
    return json.dumps(content, indent=1) + "\n"


def svg(run: Run) -> str:
    """The picture, its text in it."""
    from jinja2 import Environment, StrictUndefined

    left, right = (visible(text, one_line=True)[:80] for text in (label(run), message(run)))
    widths = [round(SHORTEST * len(text)) for text in (left, right)]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template("badge.svg")).render(
        left=left, right=right, widths=widths, color=COLORS.get(run.exit, OTHER)
    )
