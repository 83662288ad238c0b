"""The trained network in int8, scored on test once more, where trainer.quantize asks for it."""

import copy
from typing import Any

import lightning as L

from bench.fitting import Training
from bench.quantize import num_bytes, quantize
from bench.tying import TyingPlan


def scored_in_int8(trainer: L.Trainer, module: Training, plan: TyingPlan) -> dict[str, Any]:
    """`test`: the scores of the module's weights in int8; `bytes` they take, and `bytes_float` as they were.

    Bytes are those of the distinct tensors of the network, its buffers included. The work is done on a copy, by every
    rank alike: no other number of the run changes.
    """
    model = module.model
    module.model = quantize(copy.deepcopy(model), plan)
    try:
        test = module.evaluate(trainer, trainer.datamodule.test_dataloader(), "test")
        size = num_bytes(module.model)
    finally:
        module.model = model
    test.pop("groups", None)  # told of the float weights alone
    return {"test": test, "bytes": size, "bytes_float": num_bytes(model)}
