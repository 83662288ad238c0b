"""Images of a `datasets` column as one uint8 array."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset


def image_array(data: "Dataset") -> np.ndarray:
    """uint8 [N, C, H, W]: C is 1 if the first image is grey, else 3. BadInput: unreadable, unequal sizes."""
    from datasets import Image

    column = data.select_columns("image")
    if not isinstance(column.features["image"], Image):
        pixels = column.with_format("numpy")[:]["image"].astype(np.uint8)
    else:
        # Decoded here: the library's own decoding builds a Python object and a copy per image.
        encoded = column.cast_column("image", Image(decode=False))[:]["image"]
        pixels = stacked([decoded(value) for value in encoded])
    return pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def decoded(value: dict[str, Any]) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(BytesIO(value["bytes"]) if value["bytes"] is not None else value["path"]) as image:
            return np.asarray(image.convert("L" if image.mode in {"1", "L"} else "RGB"))
    except (OSError, SyntaxError) as error:  # SyntaxError: what PIL raises for a broken PNG
        raise BadInput(
            f"cannot decode image {value['path']!r}: {error}; restore the data set's files"
        ) from error


def stacked(images: list[np.ndarray]) -> np.ndarray:
    if shapes := {image.shape for image in images} - {images[0].shape}:
        raise BadInput(
            f"images must share one size and mode: found {images[0].shape} and {sorted(shapes)[0]}; "
            "resize them first"
        )
    return np.stack(images)


def label_array(data: "Dataset") -> np.ndarray:
    """int64 [N]; BadInput where an example has no label (null or negative)."""
    labels = data.with_format("numpy")["label"][:]
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise BadInput(
            "the column 'label' must hold integers from 0, one for every example; set data.source.columns"
        )
    return labels.astype(np.int64)
