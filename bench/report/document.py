"""Make a page of markdown a file that opens in a browser without network or other files."""

import base64
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

HERE = Path(__file__).parent


def html(title: str, text: str, pictures: Mapping[str, bytes] | None = None) -> str:
    """Return a whole page in the style of the other pages.

    Args:
        text: markdown with tables.
        pictures: name of a png in the text -> its content, which goes into the page.
    """
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for name, content in (pictures or {}).items():
        body = body.replace(
            f'src="{name}"', f'src="data:image/png;base64,{base64.b64encode(content).decode()}"'
        )
    body = re.sub(r"(<table>.*?</table>)", r'<div class="box">\1</div>', body, flags=re.DOTALL)
    style = (HERE / "page.css").read_text() + "img { max-width: 100%; }\n"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}'
        f"</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
