"""A tied model in one safetensors file: each shared tensor once, the plan beside them, and nothing to unpickle.

The stock ways lose ties: `save_pretrained` refuses ties across layers, and reloads a tied embedding as two matrices.
The file is read by any safetensors reader; its metadata holds `plan`, `shared` (name -> the name that its tensor is
stored under), `sha256` of the tensors, `quantised` where they are int8, and for a model of `transformers` its class
and config, so that it can be built.
"""

from bench.saving.content import as_data
from bench.saving.read import blank, load
from bench.saving.write import save

__all__ = ["as_data", "blank", "load", "save"]
