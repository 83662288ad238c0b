"""What tests of whole runs share: a small learnable text, prepared once, and the cells of the grid on it."""

import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.runs.process import preload

if TYPE_CHECKING:
    from command import Bench
    from grid import Grid

    from bench.config.run_config import RunConfig

GOLDEN_OPTION = "--write-golden"

LONGEST = (
    "test_readme.py",
    "test_command_line.py",
    "test_sweeps.py",
    "test_controls.py",
    "test_train.py",
    "test_golden.py",
    "test_chaos.py",
    "test_loggers.py",
    "test_module.py",
    "test_laws.py",
    "test_ddp.py",
    "test_archive.py",
)
"""The files that take longest, the longest first. Of files tested side by side these must not begin last."""


PRELOADED = (
    *("ddp_body", "wandb.sdk.launch", "fsspec.implementations.chained", "torch.utils.serialization"),
    *(f"transformers.models.{name}.modeling_{name}" for name in ("bert", "gpt2", "llama")),
    *("hydra", "jinja2", "joblib", "matplotlib.pyplot", "pandas", "pydantic", "rich.progress", "scipy.stats"),
    *("bench.config.help", "bench.config.refusals", "bench.config.schema", "bench.sweep.sweep"),
    *("bench.sweep.launchers.local", "bench.training.precheck", "hydra_plugins.bench_launcher"),
    *("bench.models.gru", "bench.data.text", "bench.data.series"),
    *(f"bench.tasks.{name}" for name in ("classification", "language_modeling", "forecasting")),
    *(
        f"bench.report.plots.{name}"
        for name in ("curves", "forest", "heat", "interactions", "labels", "pareto")
    ),
    *(f"bench.report.plots.{name}" for name in ("block_pairs", "maps", "pictures", "scaling", "similarity")),
)
"""What runs and commands of tests import beside the workers."""


def pytest_configure() -> None:
    """One fork server starts the runs of all files, and what it does not import each run imports, for seconds."""
    preload(PRELOADED)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        GOLDEN_OPTION, action="store_true", help="write tests/golden/golden.json anew from this code"
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 1,000 sentences of a small grammar, where the word before tells much of the next."""
    path = tmp_path_factory.mktemp("corpus") / "grammar.txt"
    path.write_text("\n".join(_sentences(1000)) + "\n")
    return path


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a folder laid out as SST-2: sentences of that grammar, labelled by the animal that acts, 0 to 3."""
    from datasets import ClassLabel, Dataset, Features, Value

    folder = tmp_path_factory.mktemp("labelled") / "sst2" / "data"
    folder.mkdir(parents=True)
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=list(_ANIMALS))})
    sentences = _sentences(1101)
    for split, part in (("train", sentences[:900]), ("validation", sentences[900:])):
        labels = [_ANIMALS.index(re.search("|".join(_ANIMALS), sentence).group()) for sentence in part]
        rows = Dataset.from_dict({"sentence": part, "label": labels}, features=features)
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder.parents[1]


@pytest.fixture(scope="session")
def grid(corpus: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> "Grid":
    """Composes the cells of task x tying, at sizes for a test, on `corpus`, `labelled`, digits and a series."""
    from grid import Grid  # here, for the tests that need no torch

    return Grid(corpus, labelled, tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def cell(grid: "Grid") -> "Callable[..., RunConfig]":
    """(task, tying="none", *overrides) -> its cell."""
    return grid.cell


_ANIMALS = ("cat", "dog", "bird", "fish")


def _sentences(count: int) -> list[str]:
    rng = random.Random(0)
    nouns = [f"{animal}{number}" for animal in _ANIMALS for number in "abcdefgh"]
    verbs = {noun: [f"{verb}{noun[-1]}" for verb in ("sees", "eats", "likes")] for noun in nouns}

    def phrase() -> list[str]:
        return [rng.choice(["the", "a", "every"]), *rng.choices([[], ["old"], ["red"]])[0], rng.choice(nouns)]

    sentences = []
    for _ in range(count):
        subject = phrase()
        sentences.append(" ".join([*subject, rng.choice(verbs[subject[-1]]), *phrase(), "."]))
    return sentences


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Callable[[], Bench]"]:
    """Makes commands with folders of their own."""
    from command import Bench  # here, for the tests that start no process

    cache = tmp_path_factory.mktemp("cache")
    scratch = tempfile.mkdtemp()  # short: the fork server's socket lies in it
    yield lambda: Bench(tmp_path_factory.mktemp("bench"), cache, scratch)
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def bench(make: "Callable[[], Bench]") -> Iterator["Bench"]:
    made = make()
    yield made
    for command in made.started:  # what a failed test left
        if command.poll() is None:
            command.kill()
            command.communicate()
