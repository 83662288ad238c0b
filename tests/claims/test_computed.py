"""Claims that are computed: the arithmetic and exact ones against published counts and closed forms."""

import pytest

from bench.claims.checks import arithmetic
from bench.claims.checks.arithmetic import rounded

TEXT = ["text_gru"]


def test_gpt2_small_has_its_published_size():
    small, gru = arithmetic.embeddings(TEXT)
    assert small.numbers()["ratio"] == gru.numbers()["ratio"] == 0.5
    assert "124,439,808 tied" in small.note and f"{2 * 50257 * 768:,}" in small.note


def test_bert_and_albert_have_theirs():
    published, sharing, rest = (part.numbers()["factor"] for part in arithmetic.albert())
    assert 18 < published < 20
    assert published == pytest.approx(sharing * rest)


def test_twelve_layers_share_eleven():
    saved, attention = (part.numbers()["floats"] for part in arithmetic.twelve_layers())
    layer = 4 * (768 * 768 + 768) + 2 * (4 * 768 * 768) + 4 * 768 + 768 + 4 * 768
    assert saved == pytest.approx(11 * layer / 1e6) and attention == pytest.approx(12 * 4 * 768**2 / 1e6)


def test_a_locally_connected_layer_has_a_kernel_at_each_place():
    parts = arithmetic.convolutions()
    assert [part.numbers()["positions"] for part in parts] == [64, 64, 16, 16, 4, 4]
    for part in parts:
        assert part.numbers()["factor"] == part.numbers()["positions"] and part.numbers()["error"] < 1e-12


def test_a_gradient_is_the_sum_over_its_uses():
    for part, uses in zip(arithmetic.gradients(TEXT, ["embedding", "cross_layer"]), (2, 4), strict=True):
        assert part.numbers()["sum_error"] < 1e-12
        assert part.numbers()["mean_error"] == pytest.approx(uses - 1)


def test_where_a_tying_does_not_apply_there_is_no_part():
    assert arithmetic.decay(["image_cnn"], ["embedding"], 0.01, 0.1) == []


def test_decay_acts_once():
    (part,) = arithmetic.decay(TEXT, ["embedding"], 0.01, 0.1)
    assert part.numbers()["once_error"] < 1e-12
    assert part.numbers()["per_use_error"] == pytest.approx(0.001, rel=0.05)


def test_layers_that_share_all_are_near_one_of_them_on_disk():
    alone, whole = arithmetic.checkpoints(TEXT, layers=8, width=64)
    assert 1 <= alone.numbers()["of_depth"] < 1.2 and whole.numbers()["of_depth"] > 2
    assert whole.numbers()["reload_error"] == 0


@pytest.mark.parametrize(
    ("error", "shown"), [(0.0, 1e-14), (3e-15, 1e-14), (2e-13, 1e-12), (0.00234, 0.0023)]
)
def test_an_error_of_rounding_is_a_power_of_ten(error, shown):
    assert rounded(error) == pytest.approx(shown, rel=1e-9)
