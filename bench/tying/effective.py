"""The effective number of parameters of a plan: soft groups counted by how far their copies are apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch.nn import Parameter

from bench.tying import sharing
from bench.tying.gram import effective_copies, gram
from bench.tying.tie import Tie, closure


def effective_count(hard: Sequence[Tie], soft: Sequence[Tie], parameters: Mapping[str, Parameter]) -> float:
    """Elements of all distinct parameters when `hard` is shared, soft groups as many copies as they amount to."""
    return sharing.count_when_shared(hard, parameters) - sum(
        (len(group) - effective_copies(gram(group))) * group[0].numel()
        for group in _groups(soft, sharing.when_shared(hard, parameters))
    )


def _groups(soft: Iterable[Tie], parameters: Mapping[str, Parameter]) -> Iterator[list[Parameter]]:
    """The distinct tensors of soft ties, in their order in the model; ties that meet in one are one group."""
    by_id = {id(parameter): parameter for parameter in parameters.values()}
    for group in closure([id(parameters[name]) for name in tie.names] for tie in soft):
        yield [parameter for one, parameter in by_id.items() if one in group]
