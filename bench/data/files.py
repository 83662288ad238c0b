"""Local files: what tells that they changed, and text files as lines."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.errors import BadInput


def stamps(paths: Iterable[Path]) -> list[list]:
    """Name, size and time of change of each file: tells cheaply that the content may differ."""
    files = sorted(path for path in paths if path.is_file())
    top = os.path.commonpath([path.parent for path in files]) if files else ""
    return [[os.path.relpath(f, top), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def text_paths(key: str, value: str | Sequence[str] | None) -> list[Path]:
    """The files that `value` names: paths, folders (their *.txt) or patterns, matches in order of name."""
    names = [value] if isinstance(value, str) else list(value or ())
    if not names:
        raise BadInput(
            f"{key} names no text: set {key} to a .txt file, a folder of them or a pattern such as "
            "'notes/*.txt'"
        )
    found: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        matches = sorted(path.rglob("*.txt") if path.is_dir() else map(Path, glob.glob(str(path))))
        matches = [match for match in matches if match.is_file()]
        if not matches:
            raise BadInput(
                f"{key}: no text file at {name!r}; give a file, a folder that holds *.txt, or a "
                "pattern that matches"
            )
        found += [match for match in matches if match not in found]
    return found


def text_lines(path: Path) -> list[str]:
    """The file's lines without blanks around them; blank ones are dropped. BadInput where nothing is left."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"cannot read {path} as UTF-8 text: {error}; convert it or leave it out of data.files"
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadInput(
            f"text file {path} is empty: it needs at least one line that is not blank, or leave it "
            "out of data.files"
        )
    return lines
