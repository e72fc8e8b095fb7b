"""Report data to the text of one HTML page.

jinja2 is imported when a page is made, and escapes every text; matplotlib is not needed for a page without
pictures, which then says so.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bwdeploy import __version__
from bwdeploy.report.html.blocks import Note, Picture
from bwdeploy.report.html.canvas import can_draw, svg_of
from bwdeploy.report.html.sections import sections_of
from bwdeploy.report.html.summary import cards_of, lead_of
from bwdeploy.report.html.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.report.html.blocks import Section
    from bwdeploy.report.html.data import ReportData

NO_PICTURES: Final = (
    "The report has no pictures, because matplotlib is not installed: `pip install 'bwdeploy[plot]'`, then"
    " `bwdeploy report OUT -o FILE` or build again. The tables are complete."
)
_HERE: Final = Path(__file__).parent
_LOG = logging.getLogger(__name__)


def html_report(data: ReportData, *, pictures: bool | None = None) -> str:
    """The page, whole.

    Args:
        data: What the build made.
        pictures: Whether to draw; None: when matplotlib is installed.
    """
    draw = can_draw() if pictures is None else pictures
    sections = sections_of(data)
    drawings, missing = _drawings(sections) if draw else ({}, [])
    notes = [
        *(Note(text, "bad") for text in data.refusals),
        *(Note(text, "warn") for text in data.problems),
        *([] if draw else [Note(NO_PICTURES)]),
    ]
    if missing:
        notes.append(Note(f"Could not be drawn: {'; '.join(missing)}. The tables are complete.", "warn"))
    return _page(
        name=data.name,
        lead=lead_of(data),
        cards=cards_of(data),
        notes=notes,
        sections=sections,
        drawings=drawings,
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        version=__version__,
    )


def _drawings(sections: Sequence[Section]) -> tuple[dict[str, str], list[str]]:
    """Name → drawing, and the titles of pictures that failed: none of them is worth the page."""
    drawn: dict[str, str] = {}
    failed: list[str] = []
    for picture in (block for section in sections for block in section.blocks if isinstance(block, Picture)):
        try:
            drawn[picture.name] = svg_of(picture)
        except Exception:  # noqa: BLE001 - a matplotlib that cannot be imported fails in many ways
            _LOG.warning("a picture of the report could not be drawn: %s", picture.title, exc_info=not failed)
            failed.append(picture.title)
    return drawn, failed


def _page(*, drawings: dict[str, str], style: str, **content: object) -> str:
    jinja2 = import_module("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    markup = import_module("markupsafe").Markup
    made_here = {name: markup(svg) for name, svg in drawings.items()}
    page: str = environment.get_template("page.html.j2").render(
        **content, drawings=made_here, style=markup(style)
    )
    return page


def _finalized(value: Any) -> Any:  # noqa: ANN401 - whatever a template shows
    """Signs that cannot be seen are shown, but for what was made here."""
    return visible(value) if type(value) is str else value
