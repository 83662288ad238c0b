"""Make plans of what a symmetry shares: a filter over positions, a filter over rotations, a matrix and its transpose.

A method finds its layers by what they say of themselves, so that any network can have them: `positions` and `rotations`
are attributes of a layer.
"""

from torch import nn

from bench.tying.errors import BadInput
from bench.tying.plan import NotApplicable, TyingPlan
from bench.tying.structure import joined, modules_by_name
from bench.tying.tie import Tie, is_integer
from bench.tying.view import Step, View

QUARTER_TURNS = 4
"""Of a full turn: how many copies of a filter `rotations` shares."""


def over_positions(model: nn.Module) -> TyingPlan:
    """Share one filter between the positions of each layer that has a filter for each: it becomes a convolution.

    Such a layer says so by an integer attribute `positions`, the length of the first axis of each of its parameters.
    One position ties nothing.

    Raises:
        BadInput: A parameter of such a layer has another first axis.
        NotApplicable: The network has no such layer.

    Source: LeCun 1989 (Generalization and network design strategies), section 4.
    """
    ties, is_met = [], False
    for path, module in modules_by_name(model).items():
        positions = getattr(module, "positions", None)
        if not is_integer(positions):
            continue
        is_met = True
        for leaf, parameter in module.named_parameters(recurse=False):
            shape = tuple(parameter.shape)
            if shape[:1] != (positions,):
                raise BadInput(
                    f"{joined(path, leaf)} has the shape {shape}, and its layer {positions} positions: its first axis "
                    "must be that of the positions"
                )
            # As many axes as the weight: what the optimizer decays stays the same.
            view = View((1, *shape[1:]), (("expand", 1, positions), ("reshape", *shape)))
            ties += [Tie((joined(path, leaf),), views=(view,))] if positions > 1 else []
    if not is_met:
        raise NotApplicable("no layer in this network has a filter for each position")
    return TyingPlan(tuple(ties))


def rotations(model: nn.Module) -> TyingPlan:
    """Share one filter between its four quarter turns, in each layer whose filters come in fours: the group p4.

    Such a layer says so by an attribute `rotations` of 4. Its outputs are ordered filter by filter, the four turns of
    each side by side, and so are its inputs where its attribute `turned_inputs` is true: the filter of a turn then
    reads the turns of its inputs shifted by as many. A bias is one for the four. A network of such layers alone makes
    of turned pictures what it makes of pictures, turned.

    Raises:
        BadInput: The outputs or inputs of such a layer come in no fours, or its filters are not square.
        NotApplicable: The network has no such layer.

    Source: Cohen & Welling 2016 (Group equivariant convolutional networks), section 6.
    """
    ties = []
    for path, module in modules_by_name(model).items():
        if getattr(module, "rotations", None) != QUARTER_TURNS:
            continue
        shapes = {leaf: tuple(p.shape) for leaf, p in module.named_parameters(recurse=False)}
        outputs, inputs, height, width = shapes["weight"]
        fours = (outputs, inputs) if module.turned_inputs else (outputs,)
        if height != width or any(number % QUARTER_TURNS for number in fours):
            raise BadInput(
                f"{joined(path, 'weight')} has the shape {shapes['weight']}: of a layer of four rotations filters must "
                "be square, and outputs (and inputs that are turned) come in fours"
            )
        for leaf, shape in shapes.items():
            view = _filters(shape, module.turned_inputs) if leaf == "weight" else _biases(shape)
            ties.append(Tie((joined(path, leaf),), views=(view,)))
    if not ties:
        raise NotApplicable("no layer in this network has a filter for each rotation")
    return TyingPlan(tuple(ties))


def _filters(shape: tuple[int, ...], turned_inputs: bool) -> View:
    """Return the view of a weight of filters and their turns, [4 x filters, (4 x) inputs, K, K]."""
    outputs, inputs, *kernel = shape
    four = QUARTER_TURNS if turned_inputs else 1

    def turned(turns: int) -> tuple[Step, ...]:
        return (("roll", turns, 2), ("rot90", turns))

    chains = tuple(turned(turns) for turns in range(QUARTER_TURNS))
    shared = (outputs // QUARTER_TURNS, inputs // four, four, *kernel)
    return View(shared, (("stack", 1, *chains), ("reshape", *shape)))


def _biases(shape: tuple[int, ...]) -> View:
    return View((shape[0] // QUARTER_TURNS,), (("expand", 1, QUARTER_TURNS), ("reshape", *shape)))


def transpose(model: nn.Module) -> TyingPlan:
    """Make each matrix of an autoencoder's decoder of the encoder's, transposed; the last of one is the other's first.

    Matrices are the weights of the `nn.Linear` layers in the children `encoder` and `decoder`; each keeps its own bias.

    Raises:
        NotApplicable: The network has no such children, or the matrices of one are not the other's transposed.

    Source: Vincent et al. 2010 (Stacked denoising autoencoders), section 2.2.
    """
    modules = modules_by_name(model)
    down, up = (
        [path for path, module in modules.items() if path.startswith(child) and isinstance(module, nn.Linear)]
        for child in ("encoder.", "decoder.")
    )
    if not down or not up:
        raise NotApplicable("no encoder and decoder with matrices in this network")
    shapes = [[tuple(modules[path].weight.shape) for path in paths] for paths in (down, up[::-1])]
    if shapes[0] != [shape[::-1] for shape in shapes[1]]:
        raise NotApplicable(f"the decoder's matrices, last first, are not the encoder's transposed: {shapes}")
    return TyingPlan(
        tuple(
            Tie(
                (joined(first, "weight"), joined(last, "weight")),
                views=(View(shape), View(shape, (("permute", 1, 0),))),
            )
            for first, last, shape in zip(down, up[::-1], shapes[0], strict=True)
        )
    )
