"""Read data sets: of the hub or a folder laid out like one, of text files, and those that need no network."""

import ast
import glob
import hashlib
import logging
import os
import sys
import sysconfig
import tempfile
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.encode import words_of
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class Source:
    """Where data come from.

    `identity()`: plain data that change when the content may have changed. `load()`: the data, or BadInput.
    """

    identity: Callable[[], dict]
    load: Callable[[], "DatasetDict"]


def source_of(plain: Mapping[str, Any]) -> Source:
    """Return the `Source` that `data.source` names; BadInput where it is none or refuses its arguments."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    node = plain["source"]
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise BadInput(
            "data.source needs a _target_: for example bench.data.sources.hub; see conf/data/*.yaml"
        )
    try:
        source = instantiate(dict(node))
    except InstantiationException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise BadInput(f"data.source: {reason}; see the arguments in bench/data/sources.py") from error
    if not isinstance(source, Source):
        raise BadInput(
            f"data.source._target_={node['_target_']} is not allowed: it must be a function that returns a Source"
        )
    return source


def hub(
    name: str | None,
    folder: str,
    config: str | None = None,
    revision: str | None = None,
    columns: dict[str, str | None] | None = None,
    root: str | None = None,
    splits: dict[str, str] | None = None,
) -> Source:
    """Read a repository of the hub, or the same layout in `root/folder`; with `root` set the hub is never asked.

    Args:
        name: of the repository; None: not on the hub.
        folder: under `root`.
        config: of the repository.
        revision: of the repository.
        columns: our names -> the data set's, e.g. {"image": "img"}; None leaves the name as it is.
        root: a folder of data sets.
        splits: our names -> the data set's, e.g. {"test": "validation"}; those that it does not name are dropped.
    """
    renames = {ours: theirs for ours, theirs in (columns or {}).items() if theirs}
    splits = dict(splits) if splits else None

    def identity() -> dict:
        read_how = {"config": config, "columns": renames, "splits": splits}
        if root:
            return {"files": stamps(local(root, folder, name).rglob("*")), **read_how}
        return {"hub": name, "revision": revision, **read_how}

    def load() -> "DatasetDict":
        if not root:
            ask_hub(name, folder)
        path = str(local(root, folder, name) if root else name)
        return renamed(chosen(read(path, config, None if root else revision), splits, path), renames, path)

    return Source(identity, load)


HUB = "https://huggingface.co"
HUB_SECONDS = 4.0  # to say hello; without a network `datasets` itself retries for 24 s


def local(root: str, folder: str, name: str | None) -> Path:
    """Return `root/folder`, which must exist: a root that was given is meant."""
    path = Path(root).expanduser() / folder
    if not path.is_dir():
        online = ", or unset both and go online" if name else ""
        raise BadInput(
            f"no data folder {path}: data.root (or BENCH_DATA_ROOT) must be a directory with {folder!r}, "
            f"laid out as on the hub; correct it{online}"
        )
    return path


def ask_hub(name: str | None, folder: str) -> None:
    """Raise BadInput within seconds where the hub does not answer; HF_HUB_OFFLINE=1 leaves it to its cache."""
    fix = f"set data.root=DIR or BENCH_DATA_ROOT=DIR to a directory that holds {folder!r}"
    if name is None:
        raise BadInput(f"data set {folder!r} is not on the hub: {fix}")
    if offline() or hub_answers():
        return
    raise BadInput(
        f"data set {name!r} is not here and {_endpoint()} does not answer: {fix}, or go online "
        f"(HF_HUB_OFFLINE=1 uses the hub's local cache)"
    )


def offline() -> bool:
    """Return whether the user wants the hub's local cache alone."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


AWAY = "no such folder here, and the hub does not answer or is not to be asked"
"""Why there is no model of a name where `is_away`."""


def is_away() -> bool:
    """Return within seconds whether the hub is not to be asked, or does not answer."""
    return offline() or not hub_answers()


def hub_answers() -> bool:
    """Return within seconds whether the hub answers; its own clients try for half a minute."""
    answered: list[bool] = []
    # A thread, because name resolution has no time limit of its own; a daemon, because it may never return.
    thread = threading.Thread(target=lambda: answered.append(answers(_endpoint())), daemon=True)
    thread.start()
    thread.join(HUB_SECONDS + 1)
    return answered == [True]


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def read(path: str, config: str | None, revision: str | None) -> "DatasetDict":
    """Load a data set into memory; what `load_dataset` raises becomes one line."""
    import datasets
    from pyarrow import ArrowException
    from yaml import YAMLError

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what it warns of, it raises too
    where = {"revision": revision} if revision else {}
    try:
        if not os.path.isdir(path):
            return datasets.load_dataset(path, config, **where)
        # A cache of its own, so that neither a stale nor a torn copy in the user's cache can answer.
        with tempfile.TemporaryDirectory() as scratch:
            return datasets.load_dataset(
                _without_patterns(path), config, cache_dir=scratch, keep_in_memory=True
            )
    except YAMLError as error:
        raise BadInput(
            f"data set {path}: its README.md begins with lines between --- that are no YAML: correct or remove them"
        ) from error
    except (
        ArithmeticError,  # a number that is too large
        OSError,
        RuntimeError,  # a script in the folder
        ValueError,
        ArrowException,
        datasets.exceptions.DatasetsError,
    ) as error:
        cause = error.__cause__ or error
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
        fix = "set data.root or BENCH_DATA_ROOT, or go online"
        if isinstance(cause, UnicodeError):
            fix = "save its files as UTF-8"
        elif os.path.isdir(path):
            fix = "correct or restore its files"
        raise BadInput(f"cannot read data set {path} (config {config}): {reason}; {fix}") from error


_linked: list[tempfile.TemporaryDirectory] = []
"""Folders that `_without_patterns` made: images are read from them until the process ends, which removes them."""


def _without_patterns(folder: str) -> str:
    """Return the folder, or one of links to its files where `datasets` would take its name for a pattern."""
    if glob.escape(folder) == folder:
        return folder
    _linked.append(tempfile.TemporaryDirectory())
    top, links = Path(folder).resolve(), Path(_linked[-1].name)
    for file in top.rglob("*"):
        if file.is_file():
            link = links / file.relative_to(top)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return str(links)


def chosen(data: "DatasetDict", splits: dict[str, str] | None, path: str) -> "DatasetDict":
    """Return the splits that `splits` names, ours -> the data set's, under our names; None: all as they are."""
    if splits is None:
        return data
    if missing := sorted(set(splits.values()) - set(data)):
        raise BadInput(
            f"data set {path} has no split {missing[0]!r}, only {sorted(data)}: set data.source.splits"
        )
    return type(data)({ours: data[theirs] for ours, theirs in splits.items()})


def renamed(data: "DatasetDict", renames: dict[str, str], path: str) -> "DatasetDict":
    for split in data.values():
        missing = set(renames.values()) - set(split.column_names)
        if missing:
            raise BadInput(
                f"data set {path} has no column {sorted(missing)}: it has {split.column_names}; set "
                "data.source.columns"
            )
    return data.rename_columns({theirs: ours for ours, theirs in renames.items() if ours != theirs})


def stamps(paths: Iterable[Path]) -> list[list]:
    """Return name, size and time of change of each file: they tell cheaply that the content may differ."""
    files = sorted(path for path in paths if path.is_file())
    top = os.path.commonpath([path.parent for path in files]) if files else ""
    return [[os.path.relpath(f, top), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def text_files(
    files: str | Sequence[str] | None,
    validation: str | Sequence[str] | None = None,
    test: str | Sequence[str] | None = None,
) -> Source:
    """Read local UTF-8 text, a line an example: paths, folders (their *.txt) or patterns; blank lines are dropped.

    Without `validation` and `test` there is one split, `train` (`bench.data.encode` cuts its lines 80/10/10).
    """

    def paths() -> dict[str, list[Path]]:
        if (validation is None) != (test is None):
            raise BadInput(
                "data.source.validation and data.source.test: give both, or neither to cut "
                "data.files 80/10/10"
            )
        by_split = {"train": text_paths("data.files", files)}
        if validation is not None:
            by_split["validation"] = text_paths("data.source.validation", validation)
            by_split["test"] = text_paths("data.source.test", test)
        trained_on = {path.resolve() for path in by_split["train"]}
        for path in (*by_split.get("validation", ()), *by_split.get("test", ())):
            if path.resolve() in trained_on:
                raise BadInput(
                    f"{path} is held out and in data.files too: a text that is trained on measures nothing; leave it "
                    "out of one of them"
                )
        return by_split

    def load() -> "DatasetDict":
        lines = {
            split: [line for path in files for line in text_lines(path)] for split, files in paths().items()
        }
        return lines_to_splits(lines)

    return Source(lambda: {split: stamps(files) for split, files in paths().items()}, load)


def text_paths(key: str, value: str | Sequence[str] | None) -> list[Path]:
    """Return the files that `value` names: paths, folders (their *.txt) or patterns, matches in order of name."""
    names = [value] if isinstance(value, str) else list(value or ())
    if not names:
        raise BadInput(
            f"{key} names no text: set {key} to a .txt file, a folder of them or a pattern such as "
            "'notes/*.txt'"
        )
    paths: dict[Path, Path] = {}
    for name in names:
        path = Path(name).expanduser()
        # A file of just that name first: its brackets are no pattern.
        named = [path] if path.is_file() else path.rglob("*.txt") if path.is_dir() else glob.glob(str(path))
        matches = [match for match in sorted(map(Path, named)) if match.is_file()]
        if not matches:
            raise BadInput(
                f"{key}: no text file at {name!r}; give a file, a folder that holds *.txt, or a "
                "pattern that matches"
            )
        for match in matches:
            paths.setdefault(match.resolve(), match)  # a link to a file that is read already is no other text
    return list(paths.values())


def text_lines(path: Path) -> list[str]:
    """Return the file's lines without blanks around them and without blank ones; BadInput where nothing is left."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark is no word
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"cannot read {path} as UTF-8 text: {error}; convert it or leave it out of data.files"
        ) from error
    if "\0" in text:
        raise BadInput(
            f"text file {path} holds NUL bytes, so it is no UTF-8 text (UTF-16, or no text): convert it or leave it "
            "out of data.files"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadInput(
            f"text file {path} is empty: it needs at least one line that is not blank, or leave it "
            "out of data.files"
        )
    return lines


def lines_to_splits(lines: dict[str, list[str]]) -> "DatasetDict":
    from datasets import Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string")})
    return DatasetDict(
        {split: Dataset.from_dict({"text": rows}, features=features) for split, rows in lines.items()}
    )


def digits() -> Source:
    """Read the 1,797 handwritten digits of scikit-learn: 8 x 8, 17 grey levels, 10 classes, one split."""

    def load() -> "DatasetDict":
        import numpy as np
        from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        pixels = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        features = Features(
            {"image": Array2D((8, 8), "uint8"), "label": ClassLabel(names=list("0123456789"))}
        )
        return DatasetDict(train=Dataset.from_dict({"image": pixels, "label": labels}, features=features))

    return Source(lambda: {"embedded": "digits", "scikit-learn": version("scikit-learn")}, load)


def co2() -> Source:
    """Read weekly CO2 at Mauna Loa, 1958 to 2001, in ppm: `date` and `co2`, 59 weeks interpolated linearly."""

    def load() -> "DatasetDict":
        from datasets import Dataset, DatasetDict
        from statsmodels.datasets import co2

        weeks = co2.load_pandas().data["co2"].interpolate()
        columns = {"date": weeks.index.strftime("%Y-%m-%d").tolist(), "co2": weeks.tolist()}
        return DatasetDict(train=Dataset.from_dict(columns))

    return Source(lambda: {"embedded": "co2", "statsmodels": version("statsmodels")}, load)


def pydocs(split_seed: int = 0) -> Source:
    """Read the docstrings of the running Python's standard library and its help topics."""
    return Source(
        lambda: _of_this_python("pydocs", split_seed), lambda: lines_to_splits(pydocs_lines(split_seed))
    )


SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "turtledemo"}
TOPICS = "pydoc_data.topics"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def pydocs_lines(split_seed: int, stdlib: Path | None = None) -> dict[str, list[str]]:
    """Return the lines of each split (train, validation, test): a module is in one split, a line occurs once.

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
    """Return train, validation or test, from the name alone."""
    tenth = int.from_bytes(_hash(f"{split_seed}:{name}")[:8], "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")


def documents(stdlib: Path) -> Iterator[tuple[str, str]]:
    """Yield (module or topic, its text), in the order of module names."""
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
    """Return the file's syntax tree, or None: the library ships templates that are no valid Python."""
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
    """Return the one dictionary literal of `pydoc_data/topics.py`."""
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return ast.literal_eval(node.value)
    return {}


def pydocs_packages(split_seed: int = 0) -> Source:
    """Read docstring lines of the running Python's largest packages, labelled by package."""

    def load() -> "DatasetDict":
        from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

        names, rows = labelled_lines(split_seed)
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        parts = {
            split: Dataset.from_dict({"text": [t for t, _ in part], "label": [n for _, n in part]}, features)
            for split, part in rows.items()
        }
        return DatasetDict(parts)

    return Source(lambda: _of_this_python("pydocs_packages", split_seed), load)


CLASSES = 8
LEAST_MODULES = 10  # or no module could be spared for test
LEAST_WORDS = 4  # a shorter line says nothing of where it stands
SHARE = 0.1  # of a package's lines, at most, in test; and in validation

Row = tuple[str, int]


def labelled_lines(split_seed: int, stdlib: Path | None = None) -> tuple[list[str], dict[str, list[Row]]]:
    """Return the names of the packages and, by split, rows of a line and its package's number.

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
            own = lines[package][module]
            split = max(room, key=room.__getitem__)
            if len(own) > room[split]:
                split = "train"
            else:
                room[split] -= len(own)
            rows[split] += [(line, label) for line in own]
    return names, rows


def package_lines(stdlib: Path) -> dict[str, dict[str, list[str]]]:
    """Return by package and module the docstrings' lines of enough words, of packages with enough such modules."""
    seen: set[str] = set()
    packages: dict[str, dict[str, list[str]]] = {}
    for folder in sorted(path for path in stdlib.iterdir() if path.is_dir() and path.name not in SKIPPED):
        modules = {}
        for module, text in documents(folder):
            lines = dict.fromkeys(line.strip() for line in text.splitlines())
            new = [line for line in lines if line not in seen and len(words_of(line)) >= LEAST_WORDS]
            seen.update(new)
            if new:
                modules[module] = new
        if len(modules) >= LEAST_MODULES:
            packages[folder.name] = modules
    return packages


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _of_this_python(embedded: str, split_seed: int) -> dict:
    stdlib = sysconfig.get_path("stdlib")
    return {"embedded": embedded, "python": sys.version, "stdlib": stdlib, "seed": split_seed}
