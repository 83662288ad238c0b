"""Where a `DatasetDict` comes from: the hub or a folder like it, scikit-learn, Python itself, text files.

Each function returns a `Source` and does nothing else: `identity()` is cheap and imports no `datasets`, so
that a prepared copy is found in milliseconds; `load()` does the work. Columns come out under one name
whatever the data set calls them: `image`, `label` and maybe `group`, or `text` and maybe `label`; a series
keeps its own.
"""

import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.corpus import pydocs_lines
from bench.data.files import stamps, text_lines, text_paths
from bench.data.hub import ask_hub, chosen, local, read, renamed
from bench.data.packages import labelled_lines
from bench.errors import BadInput

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class Source:
    """`identity()`: plain data that changes when the content may have. `load()`: the data, or BadInput."""

    identity: Callable[[], dict]
    load: Callable[[], "DatasetDict"]


def source_of(plain: Mapping[str, Any]) -> Source:
    """The `Source` that `data.source` names; BadInput where it is none or refuses its arguments."""
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
    """A repository of the hub, or the same layout in `root/folder`; with `root` set the hub is never asked.

    `columns` maps our names to the data set's, e.g. {"image": "img"}; null drops one. `splits` does so for splits,
    e.g. {"test": "validation"}, and drops those it does not name. `name` null: not on the hub.
    """
    renames = {ours: theirs for ours, theirs in (columns or {}).items() if theirs}
    splits = dict(splits) if splits else None

    def identity() -> dict:
        if root:
            return {
                "files": stamps(local(root, folder, name).rglob("*")),
                "config": config,
                "columns": renames,
                "splits": splits,
            }
        return {"hub": name, "config": config, "revision": revision, "columns": renames, "splits": splits}

    def load() -> "DatasetDict":
        if root:
            path = str(local(root, folder, name))
            return renamed(chosen(read(path, config, None), splits, path), renames, path)
        ask_hub(name, folder)
        return renamed(chosen(read(str(name), config, revision), splits, str(name)), renames, str(name))

    return Source(identity, load)


def digits() -> Source:
    """The 1,797 handwritten digits of scikit-learn: 8 x 8, 17 grey levels, 10 classes, one split."""

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
    """Weekly CO2 at Mauna Loa, 1958 to 2001, in ppm (statsmodels): `date` and `co2`, 59 weeks interpolated linearly."""

    def load() -> "DatasetDict":
        from datasets import Dataset, DatasetDict
        from statsmodels.datasets import co2

        weeks = co2.load_pandas().data["co2"].interpolate()
        columns = {"date": weeks.index.strftime("%Y-%m-%d").tolist(), "co2": weeks.tolist()}
        return DatasetDict(train=Dataset.from_dict(columns))

    return Source(lambda: {"embedded": "co2", "statsmodels": version("statsmodels")}, load)


def pydocs(split_seed: int = 0) -> Source:
    """Docstrings of the running Python's standard library and its help topics (`bench.data.corpus`)."""
    return Source(
        lambda: _of_this_python("pydocs", split_seed), lambda: lines_to_splits(pydocs_lines(split_seed))
    )


def pydocs_packages(split_seed: int = 0) -> Source:
    """Docstring lines of the running Python's largest packages, labelled by package (`bench.data.packages`)."""

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


def _of_this_python(embedded: str, split_seed: int) -> dict:
    stdlib = sysconfig.get_path("stdlib")
    return {"embedded": embedded, "python": sys.version, "stdlib": stdlib, "seed": split_seed}


def text_files(
    files: str | Sequence[str] | None,
    validation: str | Sequence[str] | None = None,
    test: str | Sequence[str] | None = None,
) -> Source:
    """Local UTF-8 text, a line an example: paths, folders (their *.txt) or patterns; blank lines are dropped.

    Without `validation` and `test` there is one split, `train` (`bench.data.splits` cuts its lines 80/10/10).
    """

    def paths() -> dict[str, list[Path]]:
        if (validation is None) != (test is None):
            raise BadInput(
                "data.source.validation and data.source.test: give both, or neither to cut "
                "data.files 80/10/10"
            )
        found = {"train": text_paths("data.files", files)}
        if validation is not None:
            found["validation"] = text_paths("data.source.validation", validation)
            found["test"] = text_paths("data.source.test", test)
        return found

    def load() -> "DatasetDict":
        lines = {
            split: [line for path in found for line in text_lines(path)] for split, found in paths().items()
        }
        return lines_to_splits(lines)

    return Source(lambda: {split: stamps(found) for split, found in paths().items()}, load)


def lines_to_splits(lines: dict[str, list[str]]) -> "DatasetDict":
    from datasets import Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string")})
    return DatasetDict(
        {split: Dataset.from_dict({"text": rows}, features=features) for split, rows in lines.items()}
    )
