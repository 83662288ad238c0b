"""What a reader of an svg sees on hover: texts that artists carry through matplotlib's writer in their ids."""

import re
from collections.abc import Iterable
from html import unescape
from xml.sax.saxutils import escape

from matplotlib.artist import Artist

ONE, EACH, BETWEEN = "tip:", "tips:", "\x1f"
GROUP = re.compile(r"""<g id=(["'])(?:(tips?:)(.*?)|[^"'<>]*)\1>""", re.DOTALL)
SHAPE = re.compile(r"<defs>.*?</defs>|<(use|path)\b([^<>]*)/>", re.DOTALL)


def tip(artist: Artist, text: str) -> None:
    """Let `artist` say `text` where the svg is hovered. Lines may be broken."""
    artist.set_gid(ONE + text)


def tips(artist: Artist, texts: Iterable[str]) -> None:
    """Let each point of `artist`, a line of markers alone or a scatter, say its own text.

    Every point must lie inside the figure: the svg writer leaves out those that do not.
    """
    artist.set_gid(EACH + BETWEEN.join(texts))


def titled(svg: str) -> str:
    """The svg with a <title> for every text, and without the other ids of groups: a page has many svgs."""
    before, *rest = re.split(GROUP, svg)
    pieces = [before]
    for kind, text, body in zip(rest[1::4], rest[2::4], rest[3::4], strict=True):
        texts = [escape(unescape(each)) for each in text.split(BETWEEN)] if kind else []
        if kind == ONE:
            pieces += [f"<g><title>{texts[0]}</title>", body]
        else:
            pieces += ["<g>", _each(body, texts)]
    return "".join(pieces)


def _each(body: str, texts: list[str]) -> str:
    """A title inside each of the first shapes, as many as there are texts; what is only defined is not shown."""
    left = iter(texts)

    def one(found: re.Match) -> str:
        text = next(left, None) if found[1] else None
        return found[0] if text is None else f"<{found[1]}{found[2]}><title>{text}</title></{found[1]}>"

    return SHAPE.sub(one, body) if texts else body
