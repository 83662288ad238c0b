"""Weight-only int8 which keeps ties: a shared tensor is quantised once, and all of its uses read the one result.

The stock way, `torch.ao.quantization.quantize_dynamic`, packs a shared weight once per use: what tying saved is lost.
What stays in memory and in the file is int8 and a scale per output channel; the float weight is made at each use, so
this saves storage, not time.
"""

from bench.quantize.model import is_quantised, quantize, stored_plan
from bench.quantize.modules import INT8, SCALE
from bench.quantize.size import num_bytes

__all__ = ["INT8", "SCALE", "is_quantised", "num_bytes", "quantize", "stored_plan"]
