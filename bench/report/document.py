"""Make a file that opens in a browser without network or other files: of a template, or of a page of markdown."""

import base64
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def html(title: str, text: str, pictures: Mapping[str, bytes] | None = None) -> str:
    """Return a whole page in the style of the other pages. Its headings have the anchors that GitHub gives them.

    Args:
        text: markdown with tables; a comment in it is left out.
        pictures: name of a png in the text -> its content, which goes into the page.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(re.sub(r"<!--.*?-->\n?", "", text))
    for opening, inside in zip(tokens, tokens[1:], strict=False):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(inside.content))
    body = parser.renderer.render(tokens, parser.options, {})
    for name, content in (pictures or {}).items():
        body = body.replace(f'src="{name}"', f'src="{data_address(content)}"')
    body = re.sub(r"(<table>.*?</table>)", r'<div class="box">\1</div>', body, flags=re.DOTALL)
    return template("base.html.j2").render(title=title, text=body)


def title_of(page: Path) -> str:
    """Return the first heading of a page of markdown; the name of its file where it has none."""
    heading = re.search(r"^# (.+)$", page.read_text(), re.M)
    return heading[1] if heading else page.stem


def anchor(heading: str) -> str:
    """Return the name that GitHub gives a heading: `C7: what?` has `c7-what`."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def data_address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@cache
def template(name: str) -> Any:
    """Load a template of this folder, which has the style and the script of all pages."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rules = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(HERE), keep_trailing_newline=True, **rules)
    environment.filters |= {"ticked": _ticked, "breakable": _breakable, "marked": _marked}
    environment.globals |= {part: (HERE / f"page.{part}").read_text() for part in ("css", "js")}
    return environment.get_template(name)


def _ticked(text: str) -> str:
    """Write `names` in backticks as code, and escape everything."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _marked(text: str) -> str:
    """Do the same, and write **names** between stars as strong."""
    from markupsafe import Markup

    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(_ticked(text))))


def _breakable(text: str) -> str:
    """Let a label go on in a line of its own before its brackets."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("(", "<wbr>("))
