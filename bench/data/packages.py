"""The embedded text with labels: lines of the standard library's docstrings, and the package each is from."""

import hashlib
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from bench.data.corpus import SKIPPED, documents
from bench.data.tokenization import words_of

CLASSES = 8
LEAST_MODULES = 10  # or no module could be spared for test
LEAST_WORDS = 4  # a shorter line says nothing of where it stands
SHARE = 0.1  # of a package's lines, at most, in test; and in validation

Row = tuple[str, int]


def labelled_lines(split_seed: int, stdlib: Path | None = None) -> tuple[list[str], dict[str, list[Row]]]:
    """(names of the packages, {train, validation, test: rows of a line and its package's number}).

    The largest packages by lines, in the order of their names. A line occurs once, in the first module that has
    it; a module is in one split. Of each package, modules in the order of a hash of the seed and their name go to
    test or validation, whichever has more room left for the package, and to train where they do not fit there.
    """
    lines = package_lines(stdlib or Path(sysconfig.get_path("stdlib")))
    size = {package: sum(map(len, modules.values())) for package, modules in lines.items()}
    names = sorted(sorted(size, key=lambda package: (-size[package], package))[:CLASSES])
    rows: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for label, package in enumerate(names):
        room = {"test": SHARE * size[package], "validation": SHARE * size[package]}
        for module in sorted(lines[package], key=lambda name: _hash(f"{split_seed}:{package}.{name}")):
            found = lines[package][module]
            split = max(room, key=room.__getitem__)
            if len(found) > room[split]:
                split = "train"
            else:
                room[split] -= len(found)
            rows[split] += [(line, label) for line in found]
    return names, rows


def package_lines(stdlib: Path) -> dict[str, dict[str, list[str]]]:
    """Package -> module -> its docstrings' lines of enough words; of packages with enough modules that have some."""
    seen: set[str] = set()
    found: dict[str, Mapping[str, list[str]]] = {}
    for folder in sorted(path for path in stdlib.iterdir() if path.is_dir() and path.name not in SKIPPED):
        modules = {}
        for module, text in documents(folder):
            lines = dict.fromkeys(line.strip() for line in text.splitlines())
            new = [line for line in lines if line not in seen and len(words_of(line)) >= LEAST_WORDS]
            seen.update(new)
            if new:
                modules[module] = new
        if len(modules) >= LEAST_MODULES:
            found[folder.name] = modules
    return found


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
