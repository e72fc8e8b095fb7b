"""One picture drawn with matplotlib and made fit to stand inside an HTML page.

matplotlib is imported here and only when something is drawn. Its SVG is made small and harmless to the rest
of the page: no metadata, no style sheet of its own, ids of its own, colors as variables of the page (see
`figures.palette`), text as text.
"""

from __future__ import annotations

import io
import re
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET  # what is parsed here was just written by matplotlib

from bwdeploy.report.html.figures.palette import GRID, INK, MUTED, VARIABLES
from bwdeploy.report.html.visible import visible

if TYPE_CHECKING:
    from bwdeploy.report.html.blocks import Picture

_WIDTH_INCHES: Final = 9.0
_SVG: Final = "http://www.w3.org/2000/svg"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_COLOR: Final = re.compile(r"#[0-9a-f]{6}")
_REFERENCE: Final = re.compile(r"url\(#([^)]+)\)")
_LINE_WIDTH: Final = 0.8
_STYLE: Final = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": _LINE_WIDTH,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9.0,
    "grid.color": GRID,
    "grid.linewidth": _LINE_WIDTH,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def can_draw() -> bool:
    """Whether matplotlib is installed; nothing is imported."""
    try:
        metadata.version("matplotlib")
    except metadata.PackageNotFoundError:
        return False
    return True


def svg_of(picture: Picture) -> str:
    """The picture as an `svg` element: the same bytes for the same numbers and version of matplotlib."""
    matplotlib = import_module("matplotlib")
    drawn = io.BytesIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": picture.name}):
        size = (_WIDTH_INCHES, picture.height)
        figure = import_module("matplotlib.figure").Figure(figsize=size, layout="constrained")
        picture.draw(figure)
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    root = ET.fromstring(drawn.getvalue())  # noqa: S314 - see the import
    _leave_only_the_drawing(root)
    for element in root.iter():
        _name_apart(element, f"picture-{picture.name}")
        _use_variables(element)
    _describe(root, picture)
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _leave_only_the_drawing(root: ET.Element) -> None:
    """Without metadata and without a style sheet, which would hold for the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}:
                parent.remove(child)


def _name_apart(element: ET.Element, name: str) -> None:
    """Ids of one picture must not be those of another on the same page."""
    attributes: dict[str, Any] = element.attrib
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if _HREF in attributes:
        target = attributes.pop(_HREF)
        attributes["href"] = f"#{name}-{target[1:]}" if target.startswith("#") else target
    for key, value in attributes.items():
        if "url(#" in value:
            attributes[key] = _REFERENCE.sub(rf"url(#{name}-\1)", value)


def _use_variables(element: ET.Element) -> None:
    style = element.attrib.get("style")
    if style:
        element.attrib["style"] = _COLOR.sub(_variable, style)


def _variable(found: re.Match[str]) -> str:
    name = VARIABLES.get(found[0])
    return f"var({name})" if name else found[0]


def _describe(root: ET.Element, picture: Picture) -> None:
    for size in ("width", "height"):  # the page decides; viewBox keeps the shape
        root.attrib.pop(size, None)
    ids = (f"picture-{picture.name}-title", f"picture-{picture.name}-description")
    root.attrib |= {"role": "img", "aria-labelledby": " ".join(ids)}
    for number, (tag, text) in enumerate((("title", picture.title), ("desc", picture.description))):
        words = ET.Element(f"{{{_SVG}}}{tag}", {"id": ids[number]})
        words.text = visible(text)
        root.insert(number, words)
