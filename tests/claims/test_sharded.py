"""Two processes that share the optimizer's state of a tied network."""

from bench.claims.checks.sharded import optimizers


def test_a_tied_tensor_is_held_once_or_refused_by_name():
    *held, refused = optimizers(timeout_s=300)
    for part in held:
        found = part.numbers()
        assert found["held"] == found["unique"] < found["uses"], part.name
        assert found["copies"] == found["tied"] == 1
    assert not refused.decides and "is shared with a parameter" in refused.note
