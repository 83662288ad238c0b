"""Images of every type, range and layout keep their picture, or are refused in one line."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from datasets import Array2D, Array3D, Dataset, Features, Image, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from bench.data.pixels import image_arrays
from bench.tying.errors import BadInput

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=2)


def encoded(picture: Picture.Image, form: str = "PNG") -> bytes:
    file = BytesIO()
    picture.save(file, form)
    return file.getvalue()


def pictures(*rows: Picture.Image, form: str = "PNG") -> Dataset:
    values = [{"bytes": encoded(row, form), "path": None} for row in rows]
    return Dataset.from_dict({"image": values}, Features({"image": Image()}))


def read(rows: Dataset, declared: list | None = None) -> np.ndarray:
    return image_arrays({"train": rows}, declared)[0]["train"]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("wide", "declared"),
    [
        (GREY.astype(np.uint16) * 257, None),
        (GREY.astype(np.uint16) * 16, [0, 4080]),
        (GREY.astype(np.int32) * 1000, [0, 255_000]),
        (GREY.astype(np.float32) / 255, None),
        (GREY.astype(np.float32) / 127.5 - 1, [-1, 1]),
    ],
)
def test_pictures_of_more_than_8_bits_are_scaled(wide: np.ndarray, declared: list | None, form: str) -> None:
    if form == "PNG" and wide.dtype != np.uint16:
        return  # a PNG has no such pixels
    np.testing.assert_array_equal(
        read(pictures(Picture.fromarray(wide), form=form), declared), GREY[None, None]
    )


@settings(deadline=None)
@given(st.sampled_from(["uint8", "uint16", "int32", "int64", "float32", "float64"]), st.integers(1, 10**6))
def test_a_declared_range_is_mapped_to_8_bits_whatever_the_type(dtype: str, high: int) -> None:
    high = min(high, np.iinfo(dtype).max if dtype[0] in "ui" else high)
    values = np.linspace(0, high, 16).astype(dtype).reshape(4, 4)
    rows = Dataset.from_dict({"image": values[None]}, Features({"image": Array2D((4, 4), dtype)}))
    expected = np.rint(values.astype(np.float64) * (255 / high))
    assert np.abs(read(rows, [0, high])[0, 0] - expected).max() <= (dtype == "float64")  # read as float32


@pytest.mark.parametrize("factor", [1 / 255, 1, 257])
def test_arrays_have_the_range_of_their_type(factor: float) -> None:
    dtype = {1: "uint8", 257: "uint16"}.get(factor, "float32")
    rows = Dataset.from_dict(
        {"image": (GREY * np.float64(factor))[None]}, Features({"image": Array2D((8, 8), dtype)})
    )
    np.testing.assert_array_equal(read(rows)[0, 0], GREY)


@pytest.mark.parametrize(
    ("highest", "declared", "told"),
    [(1, None, True), (15, None, True), (16, None, False), (1, [0, 1], False)],
)
def test_dark_pixels_may_have_another_range(highest: int, declared: list | None, told: bool) -> None:
    rows = Dataset.from_dict({"image": [(GREY * np.float64(highest / 255)).round().astype(int).tolist()] * 3})
    _, notes = image_arrays({"train": rows}, declared)
    said = f"no pixel is above {highest} of 255: if that is the highest that they can be, set data.range="
    assert notes == ([f"{said}[0,{highest}]"] if told else [])


def test_lists_of_whole_numbers_up_to_255_are_as_they_were() -> None:
    np.testing.assert_array_equal(
        read(Dataset.from_dict({"image": [GREY.tolist()] * 3})), np.stack([GREY[None]] * 3)
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[[0, 4095]]], "int64 pixels from 0 to 4095, outside 0 to 255"),
        ([[[-1, 0]]], "int64 pixels from -1 to 0"),
        ([[[0.0, 255.0]]], "from 0.0 to 255.0, outside 0 to 1"),
        ([[[0.0, float("nan")]]], "images of split 'train' have pixels that are no finite numbers"),
        ([[[0, 1]], None], "none may be absent|no finite numbers"),
        ([[0, 1, 2]], r"have the shape \(3,\)"),
        ([[[0, 1]], [[0, 1, 2]]], "each must have the same"),
        (["a.png"], "holds (large_)?string, no images"),
        ([np.zeros((5, 4, 5), int).tolist()], "does not tell the axis of the channels"),
    ],
)
def test_arrays_that_are_refused(rows: list, said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        read(Dataset.from_dict({"image": rows}))
    assert "\n" not in str(error.value)


def test_16_bits_that_may_be_12_are_not_guessed() -> None:
    rows = pictures(Picture.fromarray(GREY.astype(np.uint16) * 16))
    with pytest.raises(BadInput, match=r"no pixel above 4032.*data\.range=\[0,4095\]"):
        read(rows)


def test_splits_share_one_range_and_one_type() -> None:
    bright, dark = (pictures(Picture.fromarray(GREY.astype(np.uint16) * factor)) for factor in (257, 16))
    arrays, _ = image_arrays({"train": bright, "test": dark}, None)
    np.testing.assert_array_equal(arrays["test"][0, 0], np.rint(GREY * (16 / 257)))
    with pytest.raises(BadInput, match="several types"):
        image_arrays({"train": bright, "test": pictures(Picture.fromarray(GREY))}, None)
    with pytest.raises(BadInput, match="share one size and mode"):
        read(pictures(Picture.fromarray(GREY), Picture.fromarray(GREY.astype(np.uint16))))


@pytest.mark.parametrize(
    "shape", [(8, 8, 3), (3, 8, 8), (8, 8, 1), (1, 8, 8), (8, 8, 4), (4, 8, 8), (2, 8, 3)]
)
def test_channels_stand_first_whichever_axis_they_have(shape: tuple) -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    rows = Dataset.from_dict({"image": values}, Features({"image": Array3D(shape, "uint8")}))
    first = shape[0] in (1, 3, 4)
    np.testing.assert_array_equal(read(rows), values if first else values.transpose(0, 3, 1, 2))


def test_bytes_and_structs_are_pictures_too(tmp_path: Path) -> None:
    data = encoded(Picture.fromarray(COLOUR))
    (tmp_path / "a.png").write_bytes(data)
    for value in (data, {"bytes": data, "path": None}, {"bytes": None, "path": str(tmp_path / "a.png")}):
        np.testing.assert_array_equal(
            read(Dataset.from_dict({"image": [value]}))[0], COLOUR.transpose(2, 0, 1)
        )


@pytest.mark.parametrize(("alpha", "told"), [(255, False), (0, True)])
@pytest.mark.parametrize("colour", [GREY, COLOUR])
def test_alpha_is_left_out_with_a_word_where_it_shows(colour: np.ndarray, alpha: int, told: bool) -> None:
    picture = Picture.fromarray(colour)
    picture.putalpha(alpha)
    arrays, notes = image_arrays({"train": pictures(picture)}, None)
    expected = colour[None] if colour.ndim == 2 else colour.transpose(2, 0, 1)
    np.testing.assert_array_equal(arrays["train"][0], expected)
    assert any("1 images have transparent pixels" in note for note in notes) == told


def test_a_picture_is_turned_as_its_camera_was_held() -> None:
    how = Picture.Exif()
    how[0x0112] = 6  # the top of the picture is on the right
    file = BytesIO()
    Picture.fromarray(COLOUR[:, :6]).save(file, "PNG", exif=how)
    rows = Dataset.from_dict(
        {"image": [{"bytes": file.getvalue(), "path": None}]}, Features({"image": Image()})
    )
    np.testing.assert_array_equal(read(rows)[0], np.rot90(COLOUR[:, :6], -1).transpose(2, 0, 1))
    assert rows[0]["image"].size == (8, 6)  # as `datasets` decodes it


def test_frames_that_are_not_read_are_told() -> None:
    file = BytesIO()
    Picture.fromarray(GREY).save(file, "TIFF", save_all=True, append_images=[Picture.fromarray(GREY.T)])
    arrays, notes = image_arrays({"train": Dataset.from_dict({"image": [file.getvalue()]})}, None)
    np.testing.assert_array_equal(arrays["train"], GREY[None, None])
    assert notes == ["1 images have several frames: the first of each is read"]


def test_nested_features_tell_their_type() -> None:
    features = Features({"image": List(List(Value("float64")))})
    np.testing.assert_array_equal(
        read(Dataset.from_dict({"image": [(GREY / 255).tolist()]}, features))[0, 0], GREY
    )
