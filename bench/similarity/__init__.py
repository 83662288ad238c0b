"""How alike two blocks are beyond their raw weights: with hidden units matched, and by what they compute on data."""

from bench.similarity.aligned import Aligned, align, aligned_cosine
from bench.similarity.representations import Representations, linear_cka, representations

__all__ = ["Aligned", "align", "aligned_cosine"]
__all__ += ["Representations", "linear_cka", "representations"]
