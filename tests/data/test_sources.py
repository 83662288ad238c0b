"""What is absent or broken gets one line that says how to mend it."""

import time
from pathlib import Path

import pytest

from bench.data import sources as hub_module
from bench.data.sources import digits, hub, text_files
from bench.tying.errors import BadInput


def one_line(error: pytest.ExceptionInfo[BadInput]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_folder_reads_like_the_hub(picture_root: Path) -> None:
    columns = {"image": "image", "group": "source"}
    data = hub(None, "blood_cells", columns=columns, root=str(picture_root)).load()
    assert {split: len(part) for split, part in data.items()} == {"train": 40, "test": 6}
    assert set(data["train"].column_names) == {"image", "label", "group"}


def test_missing_folder_under_a_given_root(tmp_path: Path) -> None:
    source = hub("owner/name", "absent", root=str(tmp_path))
    for ask in (source.identity, source.load):
        with pytest.raises(BadInput) as error:
            ask()
        assert str(tmp_path / "absent") in one_line(error) and "BENCH_DATA_ROOT" in one_line(error)


def test_corrupt_parquet(picture_root: Path) -> None:
    torn = picture_root / "blood_cells" / "train-00000-of-00001.parquet"
    torn.write_bytes(torn.read_bytes()[:200])
    with pytest.raises(BadInput) as error:
        hub(None, "blood_cells", root=str(picture_root)).load()
    assert "cannot read" in one_line(error) and "restore" in one_line(error)


@pytest.mark.parametrize(
    "config, columns, word", [("absent", None, "absent"), (None, {"label": "y"}, "column")]
)
def test_wrong_config_or_column(
    picture_root: Path, config: str | None, columns: dict | None, word: str
) -> None:
    with pytest.raises(BadInput) as error:
        hub(None, "blood_cells", config, columns=columns, root=str(picture_root)).load()
    assert word in one_line(error)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInput) as error:
        hub(None, "none", root=str(tmp_path)).load()
    assert "none" in one_line(error)


def test_offline_and_absent_is_said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: refuses
    started = time.monotonic()
    with pytest.raises(BadInput) as error:
        hub("owner/name", "name").load()
    assert time.monotonic() - started < 6
    assert "data.root=" in one_line(error) and "BENCH_DATA_ROOT=" in one_line(error)


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub_module, "HUB_SECONDS", -0.9)
    monkeypatch.setattr(hub_module, "answers", lambda url: time.sleep(1) or True)
    with pytest.raises(BadInput, match="does not answer"):
        hub("owner/name", "name").load()


def test_not_on_the_hub_at_all() -> None:
    with pytest.raises(BadInput, match="not on the hub"):
        hub(None, "blood_cells").load()


def test_digits_keep_their_17_levels() -> None:
    data = digits().load()["train"].with_format("numpy")
    images = data["image"][:]
    assert images.shape == (1797, 8, 8) and images.max() == 255 and len(set(images.ravel().tolist())) == 17


def test_text_files_by_path_folder_and_pattern(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    (tmp_path / "b.txt").write_text("three\n")
    for files in (str(tmp_path), f"{tmp_path}/*.txt", [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]):
        assert list(text_files(files).load()["train"]["text"]) == ["one", "two", "three"]
    given = text_files(
        str(tmp_path / "a.txt"), validation=str(tmp_path / "b.txt"), test=str(tmp_path / "b.txt")
    ).load()
    assert {split: len(part) for split, part in given.items()} == {"train": 2, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"\xff\xfe\xfa", "UTF-8"),
        (b"a\0b\0", "NUL"),
        (None, "no text file"),
    ],
)
def test_text_that_cannot_be_used(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "x.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=word) as error:
        text_files(str(path)).load()
    assert str(path) in one_line(error)


def test_names_with_brackets_are_no_patterns(picture_root: Path, tmp_path: Path) -> None:
    (picture_root / "blood_cells").rename(picture_root / "cells [v1]")
    data = hub(None, "cells [v1]", root=str(picture_root)).load()
    assert {split: len(part) for split, part in data.items()} == {"train": 40, "test": 6}
    for name, text in (("notes [1].txt", "one"), ("notes 1.txt", "two")):
        (tmp_path / name).write_text(text)
    assert list(text_files(str(tmp_path / "notes [1].txt")).load()["train"]["text"]) == ["one"]
    assert list(text_files(str(tmp_path / "notes [0-9].txt")).load()["train"]["text"]) == ["two"]


def test_files_in_a_folder_with_brackets_stay_readable(tmp_path: Path) -> None:
    from PIL import Image

    for label in "ab":
        (tmp_path / "p [x]" / label).mkdir(parents=True)
        Image.new("L", (2, 2), ord(label)).save(tmp_path / "p [x]" / label / "1 [y].png")
    data = hub(None, "p [x]", root=str(tmp_path)).load()["train"]
    assert data.features["label"].names == ["a", "b"]
    assert sorted(row["image"].getpixel((0, 0)) for row in data) == [ord("a"), ord("b")]


def test_a_readme_that_is_no_yaml_is_named(picture_root: Path) -> None:
    (picture_root / "blood_cells" / "README.md").write_text("---\ntitle: [\n---\n")
    with pytest.raises(BadInput) as error:
        hub(None, "blood_cells", root=str(picture_root)).load()
    assert "README.md begins with lines between --- that are no YAML" in one_line(error)


def test_a_byte_order_mark_is_no_word(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two", encoding="utf-8-sig")
    assert list(text_files(str(tmp_path)).load()["train"]["text"]) == ["one two"]


def test_a_file_is_read_once_and_not_both_trained_on_and_held_out(tmp_path: Path) -> None:
    text, link, other = tmp_path / "a.txt", tmp_path / "link.txt", tmp_path / "b.txt"
    text.write_text("a b\n" * 3)
    other.write_text("c d\n")
    link.symlink_to(text)
    around = tmp_path / ".." / tmp_path.name / "a.txt"
    assert len(text_files([str(around), str(text), str(link), str(other)]).load()["train"]) == 4
    for source in (
        text_files(str(tmp_path), str(text), str(other)),
        text_files(str(text), str(link), str(other)),
    ):
        for ask in (source.identity, source.load):
            with pytest.raises(BadInput) as error:
                ask()
            assert "is held out and in data.files too" in one_line(error)


def test_text_files_need_files_and_both_held_out_sets(text_file: Path) -> None:
    with pytest.raises(BadInput, match="data.files"):
        text_files(None).identity()
    with pytest.raises(BadInput, match="both"):
        text_files(str(text_file), test=str(text_file)).identity()


def test_a_script_in_the_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / f"{tmp_path.name}.py").write_text("raise SystemExit\n")
    (tmp_path / "train.csv").write_text("text,label\na,0\n")
    with pytest.raises(
        BadInput, match="scripts are no longer supported.*correct or restore its files"
    ) as error:
        hub_module.read(str(tmp_path), None, None)
    assert "\n" not in str(error.value)
