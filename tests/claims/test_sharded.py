"""Two processes that share the optimizer's state of a tied network."""

from bench.claims.checks.sharded import optimizers


def test_a_tied_tensor_is_held_once():
    for part in optimizers(timeout_s=300):
        found = part.numbers()
        assert found["held"] == found["unique"] < found["uses"], part.name
        assert found["copies"] == 1 and found["fsdp_refused"] == 1
