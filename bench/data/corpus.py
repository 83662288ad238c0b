"""The embedded text: docstrings of the standard library and `pydoc`'s topics, read, never imported."""

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "turtledemo"}
TOPICS = "pydoc_data.topics"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def pydocs_lines(split_seed: int, stdlib: Path | None = None) -> dict[str, list[str]]:
    """Lines of text per split (train, validation, test): a module is in one split, a line occurs once.

    About 80/10/10 by a hash of the module's name (for the help topics: of the topic's), so that a module
    keeps its split when another Python version adds one. Lines are stripped and never empty; the first
    occurrence in the order of names is kept, so the longest-lived copy of a boilerplate line does not reach a
    second split.
    """
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    seen: set[str] = set()
    for name, text in documents(stdlib or Path(sysconfig.get_path("stdlib"))):
        split = splits[split_of(name, split_seed)]
        for line in text.splitlines():
            line = line.strip()
            if line and line not in seen:
                seen.add(line)
                split.append(line)
    return splits


def split_of(name: str, split_seed: int) -> str:
    """train, validation or test, from the name alone."""
    tenth = int.from_bytes(hashlib.sha256(f"{split_seed}:{name}".encode()).digest()[:8], "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")


def documents(stdlib: Path) -> Iterator[tuple[str, str]]:
    """(module or topic, its text), in the order of module names."""
    for path in sorted(stdlib.rglob("*.py")):
        relative = path.relative_to(stdlib)
        if SKIPPED.intersection(relative.parts):
            continue
        module = ".".join(relative.with_suffix("").parts)
        tree = parsed(path)
        if module == TOPICS:
            yield from ((f"{TOPICS}:{topic}", text) for topic, text in sorted(topics(tree).items()))
        elif tree is not None:
            yield module, "\n".join(docstrings(tree))


def parsed(path: Path) -> ast.Module | None:
    """The file's syntax tree, or None: the library ships templates that are no valid Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return None


def docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text


def topics(tree: ast.Module | None) -> dict[str, str]:
    """The one dictionary literal of `pydoc_data/topics.py`."""
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return ast.literal_eval(node.value)
    return {}
