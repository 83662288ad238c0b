"""Prepared once, found again in milliseconds, whole or not at all."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import prepare as prepare_module
from bench.data.contents import Content
from bench.data.prepare import load, prepare
from bench.data.sources import Source, source_of
from bench.tying.errors import BadInput

Configured = Callable[..., dict]
ROOM = Path(prepare_module.__file__).parents[2]


def tokens(folder: Path, split: str) -> np.ndarray:
    return np.load(folder / f"{split}_tokens.npy")


def test_text_meta_and_arrays(configured: Configured, text_file: Path, tmp_path: Path) -> None:
    done = prepare(configured("text_files", files=str(text_file)), tmp_path / "cache")
    meta = done.meta
    assert meta["name"] == "text_files" and meta["kind"] == "text" and meta["fingerprint"] == done.fingerprint
    for split in ("train", "val", "test"):
        stream = tokens(done.folder, split)
        assert stream.dtype == np.int32 and len(stream) == meta["sizes"][split]
        assert (stream == 0).sum() == {"train": 80, "val": 10, "test": 10}[split]  # one <eos> a line
        assert (stream == 1).sum() == meta["oov"][split]
    lines = [line for line in text_file.read_text(encoding="utf-8").split("\n") if line]
    assert sum(meta["bytes"].values()) == sum(len(line.encode()) + 1 for line in lines)
    assert meta["oov"]["train"] == 0 < meta["oov"]["test"]
    assert 1 < meta["floors"]["trigram_perplexity"] < meta["floors"]["unigram_perplexity"]


def test_bpe_by_override_has_no_unknown_and_all_bytes(
    configured: Configured, text_file: Path, tmp_path: Path
) -> None:
    done = prepare(configured("text_files", files=str(text_file), tokenizer="bpe", vocab_size=300), tmp_path)
    words = prepare(configured("text_files", files=str(text_file)), tmp_path)
    assert done.meta["vocab_size"] == 300 and done.meta["oov"] == {"train": 0, "val": 0, "test": 0}
    assert done.meta["bytes"] == words.meta["bytes"] and done.fingerprint != words.fingerprint


def test_images_keep_sources_apart(configured: Configured, picture_root: Path, tmp_path: Path) -> None:
    done = prepare(configured("blood_cells", root=str(picture_root)), tmp_path / "cache")
    assert done.meta["sizes"] == {"train": 35, "val": 5, "test": 6}  # a source is 5 images of 40
    assert done.meta["shape"] == [3, 4, 4] and done.meta["num_classes"] == 2
    train = np.load(done.folder / "train_images.npy")
    assert train.dtype == np.uint8 and train.shape == (35, 3, 4, 4)
    np.testing.assert_allclose(done.meta["mean"], train.mean((0, 2, 3)) / 255)
    np.testing.assert_allclose(done.meta["std"], train.std((0, 2, 3)) / 255)
    assert done.meta["floors"]["majority_accuracy"] == 0.5


def test_digits_split_sizes_and_no_overlap(configured: Configured, tmp_path: Path) -> None:
    done = prepare(configured("digits"), tmp_path)
    assert done.meta["sizes"] == {"train": 1197, "val": 300, "test": 300} and done.meta["shape"] == [1, 8, 8]
    rows = [np.load(done.folder / f"{s}_images.npy").reshape(-1, 64) for s in ("train", "val", "test")]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 1797  # no digit occurs twice
    assert prepare(configured("digits", split_seed=1), tmp_path).fingerprint != done.fingerprint


def test_fingerprint_is_of_content_and_not_of_place(
    configured: Configured, text_file: Path, tmp_path: Path
) -> None:
    first = prepare(configured("text_files", files=str(text_file)), tmp_path / "a")
    other = tmp_path / "elsewhere.txt"
    other.write_bytes(text_file.read_bytes())
    second = prepare(configured("text_files", files=str(other)), tmp_path / "b")
    assert first.fingerprint == second.fingerprint and first.folder != second.folder
    other.write_text(other.read_text(encoding="utf-8").replace("cat", "dog"), encoding="utf-8")
    assert (
        prepare(configured("text_files", files=str(other)), tmp_path / "b").fingerprint != first.fingerprint
    )


def test_train_limit_and_module_do_not_prepare_again(
    configured: Configured, text_file: Path, tmp_path: Path
) -> None:
    first = prepare(configured("text_files", files=str(text_file)), tmp_path)
    assert (
        prepare(configured("text_files", files=str(text_file), train_limit=50), tmp_path).folder
        == first.folder
    )
    assert len(list((tmp_path / "by_config").iterdir())) == 1


def test_an_edit_of_a_source_of_the_users_own_prepares_again(
    configured: Configured, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = tmp_path / "my_source.py"
    mine.write_text("from bench.data.sources import text_files as mine\n")
    wanted = configured("text_files", files=str(text_file)) | {"name": "mine"}
    wanted["source"]["_target_"] = "my_source.mine"
    keys = tmp_path / "cache" / "by_config"
    for text, prepared in (("", 1), ("# a comment\n", 1), ("edited = 1\n", 2)):
        mine.write_text(mine.read_text() + text)
        prepare(wanted, tmp_path / "cache")
        assert len(list(keys.iterdir())) == prepared


def test_cached_answer_imports_neither_datasets_nor_torch(
    configured: Configured, text_file: Path, tmp_path: Path
) -> None:
    config = configured("text_files", files=str(text_file))
    prepare(config, tmp_path)
    code = (
        "import json, pathlib, sys; from bench.data.prepare import prepare; "
        "prepare(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])); "
        "print([m for m in ('torch', 'datasets', 'tokenizers', 'pandas', 'sklearn') if m in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, json.dumps(config), str(tmp_path)]
    assert (
        subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOM).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("damage", ["missing", "short", "meta", "folder", "pointer"])
def test_torn_cache_recovers(damage: str, configured: Configured, text_file: Path, tmp_path: Path) -> None:
    config = configured("text_files", files=str(text_file))
    done = prepare(config, tmp_path)
    expected = tokens(done.folder, "train")
    victim = done.folder / "train_tokens.npy"
    if damage == "missing":
        victim.unlink()
    elif damage == "short":
        os.truncate(victim, 100)
    elif damage == "meta":
        (done.folder / "meta.json").write_text('{"files": ')
    elif damage == "folder":
        done.folder.rename(tmp_path / "gone")
    else:
        next((tmp_path / "by_config").iterdir()).write_text("")
    if damage not in ("pointer",):
        with pytest.raises(BadInput, match="run again"):
            load(done.folder)
    again = prepare(config, tmp_path)
    assert again.fingerprint == done.fingerprint
    np.testing.assert_array_equal(tokens(again.folder, "train"), expected)


def test_interrupted_preparation_leaves_nothing(
    configured: Configured, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, cache = configured("text_files", files=str(text_file)), tmp_path / "cache"

    def interrupted(self: Content, folder: Path) -> dict[str, int]:
        (folder / "train_tokens.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Content, "write", interrupted)
        prepare(config, cache)
    assert not [path for path in cache.rglob("*") if path.is_file() and path.name != "lock"]
    (cache / "building" / "killed").mkdir(parents=True)  # what a killed process leaves is cleared by the next
    assert load(prepare(config, cache).folder).meta["sizes"]["train"] > 0
    assert not (cache / "building").exists()


def test_two_processes_at_once(configured: Configured, text_file: Path, tmp_path: Path) -> None:
    config = json.dumps(configured("text_files", files=str(text_file)))
    code = (
        "import json, pathlib, sys; from bench.data.prepare import prepare; "
        "print(prepare(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])).folder)"
    )
    arguments = [sys.executable, "-c", code, config, str(tmp_path / "cache")]
    running = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOM) for _ in range(2)]
    folders = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0] and len(folders) == 1
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {
        "lock",
        "by_config",
        Path(folders.pop()).name,
    }


def test_unwritable_cache(configured: Configured, text_file: Path) -> None:
    with pytest.raises(BadInput, match="cannot write the data cache"):
        prepare(configured("text_files", files=str(text_file)), text_file / "cache")


@pytest.mark.parametrize("name", ["wikitext2", "sst2", "fashion_mnist"])
@pytest.mark.parametrize("wrong", [None, 5, ["a"]])
def test_a_column_of_another_kind_is_named(
    name: str, wrong: object, configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset, DatasetDict

    column = {"fashion_mnist": "image"}.get(name, "text")
    good = [[[0]]] if column == "image" else "a b"
    values = [good, None, *[good] * 28] if wrong is None else [wrong] * 30
    data = DatasetDict(train=Dataset.from_dict({column: values, "label": [0, 1] * 15}))
    source = Source(lambda: {"value": repr(wrong)}, lambda: data)
    monkeypatch.setattr(prepare_module, "source_of", lambda data: source)
    said = (
        f"row 2 of split 'train' has no {column}"
        if wrong is None
        else f"column '{column}' holds|have the shape"
    )
    with pytest.raises(BadInput, match=said) as error:
        prepare(configured(name), tmp_path)
    assert "\n" not in str(error.value)


def test_what_lasts_says_so(
    configured: Configured,
    text_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(prepare_module, "FIRST_WORD_S", 0.01)
    config = configured("text_files", files=str(text_file))
    source = source_of(config)

    def slow() -> object:
        while "preparing data text_files" not in (told := capsys.readouterr().err):
            time.sleep(0.01)
        assert told.startswith("note: ") and "so far)" in told
        return source.load()

    monkeypatch.setattr(prepare_module, "source_of", lambda data: Source(source.identity, slow))
    prepare(config, tmp_path)


def test_notes_are_printed_and_kept(
    configured: Configured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "root" / "vix"
    folder.mkdir(parents=True)
    days = [*range(1, 15), *range(20, 31)]
    rows = [f"{day}.01.2020,{1 + day % 3}" for day in days]
    (folder / "vix.csv").write_text("\n".join(["DATE,CLOSE", *rows]) + "\n")
    done = prepare(configured("vix", root=str(tmp_path / "root")), tmp_path / "cache")
    (note,) = done.meta["notes"]
    assert "the longest is 6 days, before row 15" in note
    assert capsys.readouterr().err == f"note: data=vix: {note}\n"
