"""A series made ready: changes in units of train's, split in time order, floors; what is wrong gets one line."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data.contents import LEAST
from bench.data.prepare import Prepared, prepare
from bench.tying.errors import BadInput

SPLITS = ("train", "val", "test")
Make = Callable[..., Prepared]


@pytest.fixture
def made(configured: Callable[..., dict], tmp_path: Path) -> Make:
    """(lines of a csv file, **settings) -> the prepared data."""

    def make(lines: list[str], **settings: object) -> Prepared:
        folder = tmp_path / "root" / "vix"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vix-daily.csv").write_bytes(("\n".join(lines) + "\n").encode(errors="surrogateescape"))
        asked = {"columns": ["a"], "time": None, "log": False, "root": str(tmp_path / "root")} | settings
        return prepare(configured("vix", **asked), tmp_path / "cache")

    return make


def read(done: Prepared) -> dict[str, np.ndarray]:
    return {split: np.load(done.folder / f"{split}_changes.npy") for split in SPLITS}


def zigzag(rows: int, height: int = 2) -> list[float]:
    return [height * (row % 2) for row in range(rows)]


def test_changes_in_the_head(made: Make) -> None:
    """Up and down by 2 all through train: that is the unit. In test by 6, which is 3 of them."""
    values = [*zigzag(81), *zigzag(21, 6)[1:]]
    done = made(["a,b", *(f"{value},x" for value in values)])
    assert done.meta["sizes"] == {"train": 60, "val": 20, "test": 20}
    assert done.meta["scale"] == [2.0] and done.meta["columns"] == ["a"]
    changes = read(done)
    assert all(part.dtype == np.float32 and part.shape[1] == 1 for part in changes.values())
    assert changes["train"][:3, 0].tolist() == changes["val"][:3, 0].tolist() == [1.0, -1.0, 1.0]
    assert changes["test"][:3, 0].tolist() == [3.0, -3.0, 3.0]
    floors = done.meta["floors"]
    assert floors["naive_mae"] == floors["naive_rmse"] == 3.0
    assert floors["naive_nll"] == pytest.approx(0.5 * (math.log(2 * math.pi) + 9))


def test_changes_of_logarithms(made: Make) -> None:
    done = made(["a", *(str(2.0**row) for row in range(30))], log=True)
    assert done.meta["scale"] == pytest.approx([math.log(2)])
    assert all(part == pytest.approx(1.0) for part in read(done).values())


def test_nothing_of_val_and_test_is_in_the_units(made: Make) -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=61).cumsum()
    found = []
    for seed in (1, 2):
        rest = first[-1] + 100 * np.random.default_rng(seed).normal(size=40).cumsum()
        done = made(["a", *map(str, [*first, *rest])])
        found.append((done.meta["scale"], read(done)["train"].tolist(), read(done)["test"].tolist()))
    assert found[0][:2] == found[1][:2] and found[0][2] != found[1][2]


def test_every_column_has_a_unit_of_its_own(made: Make) -> None:
    lines = [f"{a},{1000 * a}" for a in zigzag(50)]
    done = made(["a,b", *lines], columns=["b", "a"])
    assert done.meta["scale"] == [2000.0, 2.0]
    assert all((part[:, 0] == part[:, 1]).all() for part in read(done).values())


def test_co2_is_whole_and_in_units_of_train(configured: Callable[..., dict], tmp_path: Path) -> None:
    done = prepare(configured("co2"), tmp_path)
    assert done.meta["sizes"] == {"train": 1369, "val": 456, "test": 458}
    assert 0.1 < done.meta["scale"][0] < 1  # ppm a week
    assert all(np.isfinite(part).all() for part in read(done).values())
    assert (read(done)["train"] ** 2).mean() == pytest.approx(1)


GOOD = [f"{day:02},{value}" for day, value in enumerate(zigzag(30))]


@pytest.mark.parametrize(
    ("lines", "settings", "said"),
    [
        (["t,a", *GOOD], {"columns": ["c"]}, r"no column 'c', only .*data\.columns"),
        (["t,a", *GOOD], {"time": "when"}, r"no column 'when', only .*data\.time"),
        (["t,a", *GOOD[:9], "09,", *GOOD[10:]], {}, "'a' is None in row 10 of the series"),
        (["t,a", *GOOD[:9], "09,nan", *GOOD[10:]], {}, "'a' is .* in row 10 of the series"),
        (["t,a", *GOOD[:9], "09,inf", *GOOD[10:]], {}, "'a' is inf in row 10 of the series"),
        (["t,a", *GOOD[:9], "09,high", *GOOD[10:]], {}, "'a' is not numeric"),
        (["t,a", *(f"{row},{1e308 * (-1) ** row}" for row in range(30))], {}, "'a' has changes too large"),
        (["t,a", *(f"{row},{1e-300 * (-1) ** row}" for row in range(30))], {}, "'a' has changes too small"),
        (["t,a", *(f"{row},{2**60 + row * row}" for row in range(30))], {}, "beyond .* lose digits"),
        (["t,a", *GOOD[:9], "09,\udce9", *GOOD[10:]], {}, "cannot read .*save its files as UTF-8"),
        (["t,a", *GOOD], {"log": True}, r"'a' is 0 in row 1 .* above 0, as data\.log needs"),
        (["t,a", *GOOD[: LEAST - 1]], {}, f"has {LEAST - 1} rows: give at least {LEAST}"),
        (["t,a", *(f"{row},7" for row in range(30))], {}, "'a' never changes in train"),
        (["t,a", *GOOD[:9], *reversed(GOOD[9:])], {"time": "t"}, "sort the rows by time"),
        (["t,a", *GOOD[:9], *GOOD[8:]], {"time": "t"}, "'t' is 8 in row 10 of the series, after 8"),
        (["t,a", *GOOD[:9], ",1", *GOOD[10:]], {"time": "t"}, "lacks a time"),
    ],
)
def test_what_is_wrong_with_a_series_gets_one_line(
    made: Make, lines: list[str], settings: dict, said: str
) -> None:
    with pytest.raises(BadInput, match=said) as error:
        made(lines, **settings)
    assert "\n" not in str(error.value)


def test_vix_and_exchange_rate(real_root: str, configured: Callable[..., dict], tmp_path: Path) -> None:
    for name, sizes, channels in (("vix", (5540, 1846, 1848), 1), ("exchange_rate", (4552, 1517, 1518), 8)):
        done = prepare(configured(name, root=real_root), tmp_path)
        assert tuple(done.meta["sizes"][split] for split in SPLITS) == sizes
        assert (read(done)["train"] ** 2).mean(0) == pytest.approx(np.ones(channels), rel=1e-4)
