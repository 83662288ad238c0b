"""Small data sets in the layouts that the real ones have."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from prepared_folder import write_folder

CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Tests see no BENCH_DATA_ROOT unless they ask; returns what it was."""
    root = os.environ.get("BENCH_DATA_ROOT")
    monkeypatch.delenv("BENCH_DATA_ROOT", raising=False)
    return root


@pytest.fixture
def real_root(no_data_root: str | None) -> str:
    if not no_data_root:
        pytest.skip("BENCH_DATA_ROOT is not set: no real data to read")
    return no_data_root


@pytest.fixture
def configured() -> Callable[..., dict[str, Any]]:
    """conf/data/NAME.yaml with dotted overrides, resolved as Hydra would."""

    def make(name: str, **overrides: Any) -> dict[str, Any]:
        config = OmegaConf.load(CONF / f"{name}.yaml")
        for key, value in overrides.items():
            OmegaConf.update(config, key, value)
        return OmegaConf.to_container(config, resolve=True)

    return make


@pytest.fixture
def picture_root(tmp_path: Path) -> Path:
    """A folder `blood_cells` like the real one: train of 40 images from 8 sources, test of 6; 4 x 4 RGB."""
    from datasets import ClassLabel, Dataset, Features, Image, Value
    from PIL import Image as Picture

    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"]), "source": Value("string")})
    folder = tmp_path / "root" / "blood_cells"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, rows, sources in (("train", 40, 8), ("test", 6, 2)):
        pixels = rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8)
        data = {
            "image": [Picture.fromarray(p) for p in pixels],
            "label": [i % 2 for i in range(rows)],
            "source": [f"{split}{i % sources}" for i in range(rows)],
        }
        Dataset.from_dict(data, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder.parent


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """100 different lines, mixed case, with a line of more than ASCII."""
    path = tmp_path / "notes.txt"
    lines = [f"Line {i} says: the cat sat, {i * i} times." for i in range(99)]
    path.write_text("\n\n".join([*lines, "Ende gut, alles gut: Größe 日本"]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def token_folder(tmp_path: Path) -> Callable[..., Path]:
    """A prepared text whose splits are 1, 2, 3, ... of the lengths asked for, so a token tells its place."""

    def make(train: int, val: int = 7, test: int = 5) -> Path:
        sizes = {"train": train, "val": val, "test": test}
        arrays = {f"{split}_tokens": np.arange(1, n + 1, dtype=np.int32) for split, n in sizes.items()}
        meta = {"kind": "text", "vocab_size": max(sizes.values()) + 1, "sizes": sizes}
        return write_folder(tmp_path / f"tokens{train}_{val}_{test}", meta, arrays)

    return make


@pytest.fixture
def pixel_folder(tmp_path: Path) -> Path:
    """Prepared images, 1 x 2 x 2, constant: image i of a split has the pixels i; labels count up too."""
    sizes = {"train": 20, "val": 7, "test": 5}
    arrays = {}
    for split, n in sizes.items():
        arrays[f"{split}_labels"] = np.arange(n)
        arrays[f"{split}_images"] = np.repeat(np.arange(n, dtype=np.uint8), 4).reshape(n, 1, 2, 2)
    meta = {
        "kind": "image",
        "shape": [1, 2, 2],
        "num_classes": 20,
        "mean": [0.5],
        "std": [0.25],
        "sizes": sizes,
    }
    return write_folder(tmp_path / "pixels", meta, arrays)
