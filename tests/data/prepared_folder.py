"""Write a folder as `bench.data.prepare` leaves one, from arrays that a test makes up."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_folder(folder: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "meta.json").write_text(json.dumps({"fingerprint": "f", "files": files} | meta))
    return folder
