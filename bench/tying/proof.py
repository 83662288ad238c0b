"""What a model answers, asked so that two questions can be compared and nothing of the model or the caller changes."""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bench.tying import apply, gate
from bench.tying.apply import Changes, restored
from bench.tying.errors import BadInput
from bench.tying.structure import joined, modules_by_name, slots_of, tensors_kept, unwrapped
from bench.tying.tie import Tie

Example = Mapping[str, Tensor] | tuple[Any, ...] | Tensor
"""What a model is called with: keyword arguments, positional ones, or the one tensor that it reads."""

SEED = 20_240_229
"""Of the random numbers of a forward pass."""


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, and the random numbers of one seed; modes and random streams come back after."""
    modes = [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)), torch.no_grad():
        # `torch.manual_seed` would seed GPUs too that are first used later.
        torch.default_generator.manual_seed(SEED)
        if devices:
            torch.cuda.manual_seed_all(SEED)
        random.seed(SEED)
        np.random.seed(SEED % 2**32)
        try:
            model.eval()
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for module, mode in modes:
                module.training = mode


def answer(model: nn.Module, example: Example) -> Any:
    """What the model answers in evaluation mode and under one seed, on the device of its parameters."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with evaluating(model):
        if isinstance(example, Mapping):
            return model(**{key: _moved(value, device) for key, value in example.items()})
        arguments = (example,) if isinstance(example, Tensor) else example
        return model(*(_moved(value, device) for value in arguments))


def does_not_run(error: Exception, advice: str) -> BadInput:
    """Say in one line that the model could not read the example, and why."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return BadInput(f"the example does not run through the model: {reason}; {advice}")


def tensors_in(answered: Any) -> Iterator[Tensor]:
    """All tensors of an answer, in their order: of dictionaries, sequences, and outputs of `transformers`."""
    if isinstance(answered, Tensor):
        yield answered
    elif isinstance(answered, Mapping):
        yield from tensors_in(tuple(answered.values()))
    elif isinstance(answered, (list, tuple)):
        for part in answered:
            yield from tensors_in(part)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def check(changes: Changes, ties: Sequence[Tie], model: nn.Module, example: Example) -> None:
    """BadInput where the changes would leave a module with a weight of its own. The model stays as it is.

    That is a name at which the tied model answers nothing, while the untied one did, or while its module is called.
    It is also a tensor that is taken out of the model and that the model answers by all the same.
    A name that the example does not reach is let through.
    """
    before = apply.parameters_by_name(model)
    with restored(model, [parameter for parameter, _ in changes.values]):
        changes.make(model)
        probe = _Probe(model, example)
        silent = [name for name in _silent(ties, probe) if not probe.reads_elsewhere(name, before)]
        kept = called(silent, model, example) if silent else ()
        left = "" if silent else probe.reads_taken(before)
    kept = kept or (answering(silent, model, example) if silent else ())
    if kept or left:
        depends = "still depends on the tensor that it had" if left else "does not depend on it"
        raise BadInput(
            f"the tie would be one by name alone: {left or kept[0]} is shared, and what the model answers {depends} "
            "(its module keeps the weight in a list, a closure, a view or a copy); read it as an attribute when the "
            "module is called"
        )


def check_kept(
    ties: Iterable[Tie], changes: Changes, model: nn.Module, parameters: Mapping[str, Parameter]
) -> None:
    """BadInput where a module keeps a parameter that the changes take from it, or a view of it, in another place.

    Looked through are the attributes and buffers of all modules, and what `tensors_kept` finds inside them.
    A copy of the values cannot be seen so: that takes an example (`check`).
    """
    relaxed = {name for tie in ties for name in tie.names if tie.is_hard and tie.rank}
    taken = {_memory(parameters[name]): name for name in (*changes.shared, *changes.made, *relaxed)}
    taken.pop(None, None)
    for path, module in modules_by_name(model).items() if taken else ():
        for attribute, value in (vars(module) | slots_of(module)).items():
            if attribute in _OF_MODULES or f"{attribute}_orig" in module._parameters:
                continue  # torch's spectral_norm computes the attribute anew from *_orig at every call
            if attribute == "_flat_weights" and isinstance(module, nn.RNNBase):
                continue  # follows the parameters
            for tensor in tensors_kept(value, set()):
                if name := taken.get(_memory(tensor)):
                    raise BadInput(
                        f"the tie would be one by name alone: {joined(path, attribute)} keeps {name}, or a view of "
                        "it, and would go on with it; read it as an attribute when the module is called, or give "
                        "apply an example= by which the tie is proven"
                    )


_OF_MODULES = frozenset(vars(nn.Module())) - {"_buffers"}
"""Attributes that every module has: its parameters and submodules, which a tie reaches, and its hooks."""


def _memory(tensor: Tensor) -> int | None:
    """Return where the tensor's values lie; None for a tensor without values or without one place for them."""
    if tensor.is_meta or tensor.layout != torch.strided:
        return None
    return tensor.untyped_storage().data_ptr() or None


def silent_uses(ties: Iterable[Tie], model: nn.Module, example: Example) -> tuple[str, ...]:
    """The names of hard ties, which are applied, at which nothing that the model answers to `example` depends.

    Raises BadInput where the model cannot read the example, or answers it in two ways.
    """
    return tuple(_silent(ties, _Probe(model, example)))


def _silent(ties: Iterable[Tie], probe: "_Probe") -> list[str]:
    parameters = apply.parameters_by_name(probe.model)
    silent = []
    for tie in (tie for tie in ties if tie.is_hard):
        shared = parameters[tie.names[0]]
        uses = [name for name, parameter in parameters.items() if parameter is shared]
        for name in tie.names:
            # At one name the tensor itself is changed, for a view of it is a use as good as any.
            in_place = name == tie.names[0]
            if not probe.answers(name, shared, uses, in_place):
                silent.append(name)
    return silent


def answering(names: Sequence[str], model: nn.Module, example: Example) -> tuple[str, ...]:
    """Those of these names whose own tensor, changed in place, changes what the model answers."""
    probe = _Probe(model, example)
    parameters = apply.parameters_by_name(model)
    uses = {
        name: [other for other, parameter in parameters.items() if parameter is parameters[name]]
        for name in names
    }
    return tuple(name for name in names if probe.answers(name, parameters[name], uses[name], in_place=True))


def called(names: Sequence[str], model: nn.Module, example: Example) -> tuple[str, ...]:
    """Those of these names whose module is called when the model reads the example."""
    owners = {name: apply.place(model, name)[0] for name in names}
    reached: set[int] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: reached.add(id(module)))
        for module in {id(owner): owner for owner in owners.values()}.values()
    ]
    try:
        answer(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(name for name, owner in owners.items() if id(owner) in reached)


class _Probe:
    """A model and what it answers to one example."""

    def __init__(self, model: nn.Module, example: Example) -> None:
        model = self.model = unwrapped(model)  # compiled, it would be compiled again for every change
        self.example = example
        gate.check_in_memory(apply.parameters_by_name(model), "to be proven")
        try:
            with restored(model, list(model.buffers())):
                self.usual = _answer(model, example)
                again = _answer(model, example)
        except Exception as error:
            raise does_not_run(error, "give data that it reads") from error
        if not any(bool((tensor == tensor).any()) for tensor in self.usual):
            raise BadInput(
                "the model answers the example with no number, so that nothing can be proven by it"
            )
        if not _is_same(self.usual, again):
            raise BadInput("the model answers one example in two ways, so that nothing can be proven by it")

    def answers(self, name: str, shared: Parameter, uses: Sequence[str], in_place: bool) -> bool:
        """Whether the model answers otherwise when the tensor is not a number for this name and itself for the others.

        Where nothing that the model answers depends on the module of this name, what the module itself puts out counts.
        uses: all names of the tensor. in_place: whether the tensor itself is changed, and the others read a copy.
        """
        owner = apply.place(self.model, name)[0]

        def changes(ask: Callable[[], list[Tensor]], usual: list[Tensor]) -> bool:
            with self._changed(name, shared, uses, in_place):
                try:
                    now = ask()
                except Exception:  # what breaks by the change answers it
                    return True
            return not _is_same(usual, now)

        def put_out() -> list[Tensor]:
            return _put_out(owner, self.model, self.example)

        return changes(lambda: _answer(self.model, self.example), self.usual) or changes(put_out, put_out())

    def reads_elsewhere(self, name: str, before: Mapping[str, Parameter]) -> bool:
        """Whether the model reads the tensor under another name that was the same tensor before the tie too."""
        now = apply.parameters_by_name(self.model)
        uses = [other for other, parameter in now.items() if parameter is now[name]]
        own = [other for other in uses if other != name and before.get(other) is before[name]]
        return any(self.answers(other, now[other], uses, in_place=False) for other in own)

    def reads_taken(self, before: Mapping[str, Parameter]) -> str:
        """Return a name whose tensor of `before`, which the model has no longer, changes its answer; "" for none."""
        now = apply.parameters_by_name(self.model)
        places = {_memory(parameter) for parameter in now.values()}
        taken = {name: p for name, p in before.items() if p is not now.get(name) and _memory(p) not in places}

        def change(names: Iterable[str]) -> bool:
            written = [taken[name] for name in names]
            with restored(self.model, [*written, *self.model.buffers()]), torch.no_grad():
                for tensor in written:
                    tensor.fill_(torch.nan)
                return not _is_same(self.usual, _answer(self.model, self.example))

        return next((name for name in taken if change([name])), "") if taken and change(taken) else ""

    @contextlib.contextmanager
    def _changed(self, name: str, shared: Parameter, uses: Sequence[str], in_place: bool) -> Iterator[None]:
        tensor = shared.detach().clone()
        bad = torch.full_like(tensor, torch.nan)
        with restored(self.model, [shared, *self.model.buffers()]):
            for other in (use for use in uses if use != name) if in_place else ():
                apply.put(self.model, other, Parameter(tensor, shared.requires_grad))
            if in_place:
                with torch.no_grad():
                    shared.copy_(bad)
            else:
                apply.put(self.model, name, Parameter(bad, shared.requires_grad))
            yield


def _answer(model: nn.Module, example: Example) -> list[Tensor]:
    answered = (tensor.detach() for tensor in tensors_in(answer(model, example)))
    return [tensor.clone() if tensor.layout == torch.strided else tensor.to_dense() for tensor in answered]


def _put_out(module: nn.Module, model: nn.Module, example: Example) -> list[Tensor]:
    """All that one module of the model puts out while the model reads the example."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        seen.extend(
            tensor.detach().clone() for tensor in tensors_in(output) if tensor.layout == torch.strided
        )

    with module.register_forward_hook(keep):
        answer(model, example)
    return seen


def _is_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    pairs: Iterator[tuple[Any, Any]] = zip(one, other, strict=False)
    return len(one) == len(other) and all(a.shape == b.shape and _equal(a, b) for a, b in pairs)


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | ((one != one) & (other != other))).all())
