"""What a table says of the size of a control."""

from collections.abc import Mapping
from typing import Any

from bench.tying_spec import TyingSpec, recorded_spec

CLOSE = 0.05
"""The share by which a control may miss the parameters it is to have before its row says so."""


def control_note(record: Mapping[str, Any]) -> str:
    """`width 52, feed-forward 230: 1.003x the parameters of cross_layer`; empty for what is no control.

    record: of a run or a cost, from which it takes its spec and `control`.
    """
    control = record.get("control")
    if not control:
        return ""
    inner = f", feed-forward {control['feed_forward']}" if control["feed_forward"] else ""
    spec = recorded_spec(record) or TyingSpec.unknown(record["tying"])
    of = spec.without_control.label if control["kind"] == "params" else "none"
    far = ", the nearest there is" if abs(control["ratio"] - 1) > CLOSE else ""
    return f"width {control['width']}{inner}: {control['ratio']:.3f}x the parameters of {of}{far}"
