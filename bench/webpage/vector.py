"""An svg picture made part of a page: no prolog, no name that another picture has too, nothing from outside."""

import re
from typing import NamedTuple
from xml.etree import ElementTree

DROPPED = {"metadata", "script", "foreignObject", "style"}
PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0, "in": 96.0}


class Picture(NamedTuple):
    """`svg` for a page, `width` in pixels at full size, `title` for those who do not see it."""

    svg: str
    width: int
    title: str


def inlined(data: bytes, prefix: str, title: str) -> Picture:
    """The svg with every id, and every reference to one, after `prefix`; styles, scripts and outside references go.

    Coordinates keep two decimals, a hundredth of a point. ElementTree.ParseError where `data` is no xml.
    """
    root = ElementTree.fromstring(data)
    width = _pixels(root)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    _clean(root, prefix)
    root.attrib |= {"role": "group", "aria-label": title, "tabindex": "0", "data-width": str(width)}
    return Picture(ElementTree.tostring(root, encoding="unicode"), width, title)


def _pixels(root: ElementTree.Element) -> int:
    found = re.fullmatch(r"([\d.]+)(pt|px|in|)", root.get("width", ""))
    if found:
        return round(float(found[1]) * PIXELS[found[2]])
    box = root.get("viewBox", "0 0 640 0").split()
    return round(float(box[2]))


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    element.attrib = dict(filter(None, (_attribute(*item, prefix) for item in element.attrib.items())))
    element.text, element.tail = _short(element.text), _short(element.tail)
    for child in list(element):
        if not isinstance(child.tag, str) or _local(child.tag) in DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _local(name: str) -> str:
    """In html an svg needs no namespaces."""
    return name.rpartition("}")[2]


def _attribute(name: str, value: str, prefix: str) -> tuple[str, str] | None:
    plain = _local(name)
    if plain.startswith("on"):
        return None
    if plain == "href":
        if value.startswith("data:image/png;"):  # a colour bar
            return "href", value
        return ("href", f"#{prefix}{value[1:]}") if value.startswith("#") else None
    if plain == "id":
        return plain, f"{prefix}{value}"
    if plain in ("d", "x", "y", "points"):
        return plain, re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
    if re.search(r"url\(\s*['\"]?(?!['\"]?#)", value):
        return None
    return plain, re.sub(r"url\(['\"]?#", lambda found: found[0] + prefix, value)


def _short(text: str | None) -> str | None:
    """Spaces between elements say nothing."""
    return text if text and text.strip() else None
