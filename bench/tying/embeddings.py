"""Make plans of what the two embeddings of a language model share beyond one matrix."""

from torch import nn

from bench.tying.apply import weight
from bench.tying.methods import embedding
from bench.tying.plan import TyingPlan
from bench.tying.structure import parts_of
from bench.tying.tie import Tie
from bench.tying.view import View


def joint_embedding(model: nn.Module) -> TyingPlan:
    """Make each row of the output matrix of the word's input embedding e: tanh(U e + b), with U and b trained too.

    It costs width * (width + 1) parameters more than `embedding` and begins close to it (`bench.tying.view.Made`). The
    published form maps the hidden state in the same way before the product; that is a layer and no weight, so no tie
    can add it, and the network is left as it is. Entries of the output matrix stay between -1 and 1.

    Raises:
        NotApplicable: As `embedding`.

    Source: Pappas et al. 2018 (Beyond weight tying), equation 7.
    """
    embedding(model)  # refuses what has no two ends of one shape
    parts = parts_of(model)
    shape = tuple(weight(model, parts.embedding).shape)
    views = (View(shape), View(shape, mapped=True))
    return TyingPlan((Tie((parts.embedding, parts.unembedding), views=views),))
