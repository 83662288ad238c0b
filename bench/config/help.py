"""What `--help` says of each group's choices and of each key: the comments in conf/, which stand nowhere else."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

GLOBAL = "# @package _global_"
GROUP = re.compile(r"([\w/]+): (\w+(?:, \w+)*)")
KEY = re.compile(r"( *)(\w+):(?: +(.*?))?(?: +# (.*))?")
GOES_ON = re.compile(r" {8,}# (.*)")
SECTIONS = ("data", "logger", "model", "task", "trainer")
"""Groups whose keys stand in their own files; those of the others stand in config.yaml."""

COLUMN, WIDTH = 34, 120

Comments = Mapping[str, Mapping[str, set[str]]]
"""By dotted key and by the value that stands beside it in a file."""


def with_comments(text: str, conf: Path) -> str:
    """Return Hydra's help with the comments of the files in `conf` beside the choices and keys."""
    groups, begins, keys = text.partition("\nKeys ")
    lines = [line for raw in groups.splitlines() for line in _choices(raw, conf)]
    comments = _comments(conf)
    return "\n".join([*lines, *(_with_comment(*entry, comments) for entry in _entries(begins + keys))])


def _choices(line: str, conf: Path) -> Iterator[str]:
    """Yield a group and a line for each of its choices; any other line as it is."""
    group = GROUP.fullmatch(line)
    if group and group[1] == "claims":  # `make claims` reads them: there is nothing to choose
        return
    if not group or not (conf / group[1]).is_dir():
        yield line
        return
    yield f"{group[1]}:"
    for name in group[2].split(", "):
        yield _beside(f"  {name}", _first_comment(conf / group[1] / f"{name}.yaml"))


def _first_comment(path: Path) -> str:
    """Return the first lines of a file's comment, up to one that ends a sentence."""
    text = path.read_text().removeprefix(f"{GLOBAL}\n")
    comment = ""
    for line in text.splitlines():
        if not line.startswith("# ") or (comment.endswith((".", "?", ")")) and not comment.endswith("al.")):
            break
        comment += line[1:]
    return comment.strip()


def _beside(line: str, comment: str) -> str:
    if not comment:
        return line
    indent = " " * COLUMN + "  # "
    return textwrap.fill(comment, WIDTH, initial_indent=f"{line:<{COLUMN}}  # ", subsequent_indent=indent)


def _entries(text: str, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield each line of a yaml text with its dotted key, its value and its comment, which may go on below it."""
    path: list[tuple[int, str]] = []
    entry: tuple[str, str, str, str] | None = None
    for line in text.splitlines():
        if (continued := GOES_ON.fullmatch(line)) and entry and entry[3]:
            entry = (*entry[:3], f"{entry[3]} {continued[1]}")
            continue
        if entry:
            yield entry
        key = KEY.fullmatch(line)
        if key:
            path = [(indent, name) for indent, name in path if indent < len(key[1])] + [(len(key[1]), key[2])]
        dotted = ".".join([prefix, *(name for _, name in path)]).lstrip(".") if key else ""
        entry = (line, dotted, (key and key[3]) or "", (key and key[4]) or "")
    if entry:
        yield entry


def _comments(conf: Path) -> Comments:
    comments: Comments = defaultdict(lambda: defaultdict(set))
    for path in [conf / "config.yaml", *(path for name in SECTIONS for path in (conf / name).glob("*.yaml"))]:
        text = path.read_text()
        is_global = path.parent == conf or GLOBAL in text
        for _, key, value, comment in _entries(text, "" if is_global else path.parent.name):
            comments[key][value].add(comment)
    return comments


def _with_comment(line: str, key: str, value: str, _: str, comments: Comments) -> str:
    """Add the comment that files have beside this key and value, else the one beside this key, if it is one alone."""
    by_value = comments.get(key, {})
    here = by_value.get(value, set())
    anywhere = set().union(*by_value.values()) - {""}
    alike = here if here - {""} else anywhere
    return _beside(line, min(alike) if len(alike) == 1 else "")
