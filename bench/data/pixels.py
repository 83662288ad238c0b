"""Read a column of images into uint8 arrays, by the type, the range and the layout of its pixels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset

_GREY = {"1", "L", "LA", "La"}
_WIDE = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
"""Modes of Pillow whose pixels have more than 8 bits: they are scaled here, because Pillow would clip them."""

_FULL = {"bool": (0, 1), "uint16": (0, 65535), "float": (0, 1), "other": (0, 255)}
"""By the type of the pixels: the lowest and the highest value that they can have, where none is declared."""

_DARK = 16
"""Pixels that use less than this share of their range may have another one: masks of 0 and 1, grey of 4 bits."""


def image_arrays(
    splits: Mapping[str, "Dataset"], declared: Sequence[float] | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the column `image` of each split.

    Args:
        splits: by name; the column holds pictures, encoded or not, or arrays of pixels.
        declared: the lowest and the highest value that a pixel can have. None: that of the pixels' type, which is
            0 to 255 for whole numbers, 0 to 65535 for uint16 and 0 to 1 for floats.

    Returns:
        uint8 [N, C, H, W] of each split, the range mapped to 0 to 255; what was left out, for the user to read.

    Raises:
        BadInput: an image that is absent, unreadable or of another size than the first, or pixels whose range or
            layout cannot be told.
    """
    left_out: Counter[str] = Counter()
    pixels = {split: _read(rows, split, left_out) for split, rows in splits.items()}
    low, high = _range(pixels) if declared is None else declared
    notes = [f"{count} images have {what}" for what, count in left_out.items()]
    brightest = max(values.max().item() for values in pixels.values())
    if declared is None and 0 < brightest < high / _DARK:
        notes.append(
            f"no pixel is above {brightest} of {high}: if that is the highest that they can be, set "
            f"data.range=[{low},{brightest}]"
        )
    for split, values in pixels.items():
        if outside := _outside(values, low, high):
            raise BadInput(
                f"images of split {split!r} have {values.dtype} pixels from {outside[0]} to {outside[1]}, outside "
                f"{low} to {high}: declare the lowest and the highest that they can be, as data.range=[LOW,HIGH]"
            )
    return {split: _channels_first(_eight_bit(values, low, high)) for split, values in pixels.items()}, notes


def _read(rows: "Dataset", split: str, left_out: Counter[str]) -> np.ndarray:
    """Return the pixels of all rows, of any type. Count in `left_out` what of the images is not read."""
    from datasets import Image, Value

    column = rows.select_columns("image")
    feature = column.features["image"]
    is_file = isinstance(feature, dict) and set(feature) == {"bytes", "path"}
    if isinstance(feature, Image) or is_file or feature in (Value("binary"), Value("large_binary")):
        # Decoded here: the library's own decoding builds a Python object and a copy per image.
        encoded = column.cast_column("image", Image(decode=False))[:]["image"]
        return _stacked([_decoded(value, left_out) for value in encoded])
    while not isinstance(feature, Value) and hasattr(feature, "feature"):
        feature = feature.feature
    try:
        dtype = np.dtype(getattr(feature, "dtype", "object"))
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "buif":
        raise BadInput(
            f"the column 'image' holds {getattr(feature, 'dtype', 'other things')}, no images: set "
            "data.source.columns, or give pictures, their bytes or arrays of pixels"
        )
    values = column.with_format("numpy")[:]["image"]
    if values.dtype == object or values.ndim not in (3, 4) or not values.size:
        shapes = (
            sorted({np.shape(value) for value in values})[:2] if values.dtype == object else values.shape[1:]
        )
        raise BadInput(
            f"images of split {split!r} have the shape {shapes}: each must have the same, H x W or H x W x C or "
            "C x H x W, and none may be absent"
        )
    _need_finite(values, split)
    return values.astype(dtype, copy=False)


def _decoded(value: Mapping[str, Any], left_out: Counter[str]) -> np.ndarray:
    """Return the pixels of an encoded image, turned as a camera says that it was held."""
    from PIL import Image, ImageOps

    try:
        with Image.open(value["path"] if value["bytes"] is None else BytesIO(value["bytes"])) as image:
            if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
                left_out["transparent pixels: they are read as opaque"] += 1
            if getattr(image, "is_animated", False):
                left_out["several frames: the first of each is read"] += 1
            turned = ImageOps.exif_transpose(image) if image.getexif() else image
            if turned.mode not in _WIDE:
                turned = turned.convert("L" if turned.mode in _GREY else "RGB")
            array = np.asarray(turned)
            return array.astype(array.dtype.newbyteorder("="), copy=False)
    except (OSError, SyntaxError, ValueError, AttributeError, Image.DecompressionBombError) as error:
        # SyntaxError: what PIL raises for a broken PNG. AttributeError: for no path at all.
        raise BadInput(
            f"cannot decode image {value['path']!r}: {error}; restore the data set's files"
        ) from error


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    kinds = {(image.shape, image.dtype.name) for image in images}
    first = (images[0].shape, images[0].dtype.name)
    if others := sorted(kinds - {first}):
        raise BadInput(
            f"images must share one size and mode: found {first[0]} of {first[1]} and {others[0][0]} of "
            f"{others[0][1]}; resize or convert them first"
        )
    return np.stack(images)


def _need_finite(values: np.ndarray, split: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInput(
            f"images of split {split!r} have pixels that are no finite numbers: correct or remove them"
        )


def _range(pixels: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return the range of the pixels' type; BadInput where it is likely to be another one."""
    dtypes = {values.dtype for values in pixels.values()}
    if len(dtypes) > 1:
        names = ", ".join(sorted(dtype.name for dtype in dtypes))
        raise BadInput(f"the splits' images have pixels of several types ({names}): convert them to one")
    dtype = dtypes.pop()
    low, high = _FULL.get(dtype.name) or _FULL["float" if dtype.kind == "f" else "other"]
    brightest = max(float(values.max()) for values in pixels.values())
    if dtype.name == "uint16" and brightest <= high / 2:
        raise BadInput(
            f"images of 16 bits have no pixel above {brightest:.0f}, so they may hold fewer bits: declare the range of "
            f"the pixels, as data.range=[0,4095] (12 bits) or data.range=[0,65535] (16 bits)"
        )
    return low, high


def _outside(values: np.ndarray, low: float, high: float) -> tuple[float, float] | None:
    """Return the least and the greatest value where one is out of range."""
    least, greatest = values.min().item(), values.max().item()
    return None if low <= least and greatest <= high else (least, greatest)


def _eight_bit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map `low` to 0 and `high` to 255, rounded to the nearest."""
    if values.dtype.kind in "ui" and (low, high) == (0, 255):
        return values.astype(np.uint8, copy=False)
    scaled = np.empty(values.shape, np.uint8)
    for row, image in enumerate(values):  # image by image: no copy of the data set in float64
        scaled[row] = np.rint((image.astype(np.float64) - low) * (255 / (high - low)))
    return scaled


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Return [N, C, H, W] of images [N, H, W], [N, H, W, C] or [N, C, H, W].

    An axis of 1 or 3, else the shorter one of the first and the last, holds the channels; of equals the last.
    """
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1], images.shape[3]
    if last in (1, 3) or (first not in (1, 3) and last < first):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if first == last:
        raise BadInput(
            f"images have the shape {images.shape[1:]}, which does not tell the axis of the channels: store them as "
            "H x W x C with fewer channels than rows"
        )
    return images
