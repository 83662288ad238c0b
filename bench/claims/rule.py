"""Decision rules: comparisons of named numbers, read from a claim file and never run as code."""

import ast
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from bench.analysis.groups import grouped
from bench.analysis.statistics import TOO_FEW
from bench.tying.errors import BadInput


class Word(StrEnum):
    """What is found of a claim, or of one of its parts.

    The last two are no verdicts: there are no records yet, or its file is bad.
    """

    SUPPORTED = "supported"
    REFUTED = "refuted"
    MIXED = "mixed by condition"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTABLE = "not testable here"
    VACUOUS = "vacuous"
    NOT_RUN = "not yet run"
    NOT_EVALUATED = "not evaluated"


DECIDING = (Word.SUPPORTED, Word.REFUTED)
"""The words that a rule must have an expression for."""
GATES = {"vacuous": Word.VACUOUS, "untestable": Word.NOT_TESTABLE}
"""Expressions that a rule may have: where one holds, the part is no test of the claim."""
EVERY = {"supported": "supported == parts", "refuted": "refuted > 0 and supported == 0"}
"""Supported only where every part supports it; refuted where a part refutes it and none supports it."""


class Verdict(NamedTuple):
    """A word with what it is about. is_hint: it rests on fewer seeds than are enough."""

    word: Word
    detail: str = ""
    is_hint: bool = False

    @property
    def is_judged(self) -> bool:
        """Whether the rule was applied to a number."""
        return self.word in (*DECIDING, Word.MIXED, Word.INCONCLUSIVE)

    @property
    def short(self) -> str:
        return f"{self.word} ({TOO_FEW})" if self.is_hint else str(self.word)

    def __str__(self) -> str:
        return f"{self.short}: {self.detail}" if self.detail else self.short


ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
COMPARISONS: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
SYNTAX = (ast.Name, ast.Load, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.USub, ast.Not, ast.BinOp, ast.Compare)
FUNCTIONS: dict[str, Callable[..., float]] = {"abs": abs, "min": min, "max": max}
ALLOWED = "numbers, names, + - * / **, comparisons, and, or, not, abs(), min(), max()"


def parsed(expression: Any) -> ast.expr:
    """Return the syntax tree. BadInput for what is no expression of ALLOWED that answers yes or no."""
    try:
        tree = ast.parse(str(expression), mode="eval").body
    except SyntaxError as error:
        raise BadInput(f"bad expression {expression!r}: {error.msg}; allowed are {ALLOWED}") from error
    for node in ast.walk(tree):
        if not _is_allowed(node):
            raise BadInput(f"bad expression {expression!r}: {ast.unparse(node)}; allowed are {ALLOWED}")
    is_negation = isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    if not isinstance(tree, ast.Compare | ast.BoolOp) and not is_negation:
        raise BadInput(f"bad expression {expression!r}: it must compare, as `low > 0` does")
    return tree


def holds(expression: Any, numbers: Mapping[str, float | None]) -> bool | None:
    """Return whether it holds of those numbers, None where that depends on one that is not known.

    BadInput for a name that is not among them, and for what parsed() refuses.
    """
    tree = parsed(expression)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in called and node.id not in numbers:
            names = ", ".join(sorted(numbers))
            raise BadInput(f"bad expression {expression!r}: no number {node.id}; there is {names}")
    try:
        return _value(tree, numbers)
    except (ZeroDivisionError, OverflowError) as error:
        raise BadInput(f"bad expression {expression!r}: {error}") from error


def verdict(rule: Mapping[str, Any], numbers: Mapping[str, float | None]) -> Word | None:
    """Return supported, refuted or inconclusive, None where a number that decides is not known.

    BadInput for a bad expression, and where both of the rule hold.
    """
    pro, contra = (holds(rule[word], numbers) for word in DECIDING)
    if pro and contra:
        raise BadInput("the rule says both supported and refuted: let its two expressions exclude each other")
    if pro or contra:
        return Word.SUPPORTED if pro else Word.REFUTED
    return None if pro is None or contra is None else Word.INCONCLUSIVE


def gate(rule: Mapping[str, Any], numbers: Mapping[str, float | None]) -> Word | None:
    """Return vacuous or not testable where the rule says so of these numbers, else None."""
    return next((word for key, word in GATES.items() if key in rule and holds(rule[key], numbers)), None)


def over_parts(overall: Mapping[str, Any], conditions: Sequence[tuple[str, Verdict]]) -> Verdict:
    """Return the verdict over the parts of a claim, each a condition with its own.

    Parts that are vacuous, not testable or not yet run have no say where another part has. The detail lists the
    conditions by their words, where those differ.
    """
    words = [part_verdict.word for _, part_verdict in conditions]
    judged = [part_verdict.word for _, part_verdict in conditions if part_verdict.is_judged]
    if not judged:
        left = [word for word in (Word.NOT_RUN, Word.NOT_TESTABLE, Word.VACUOUS) if word in words]
        return Verdict(left[0] if left else Word.NOT_RUN)
    counts = {str(word): float(judged.count(word)) for word in DECIDING}
    outcome = verdict(overall, {**counts, "parts": float(len(judged))})
    if outcome not in DECIDING:
        is_mixed = Word.SUPPORTED in judged
        outcome = Word.MIXED if is_mixed else Word.INCONCLUSIVE
    of_name = _shortest({name: part_verdict.word for name, part_verdict in conditions})
    listed = [
        f"{word} for {'; '.join(name for name, own in of_name.items() if own == word)}"
        for word in dict.fromkeys(sorted(words, key=list(Word).index))
    ]
    return Verdict(outcome, ". ".join(listed) if len(listed) > 1 else "")


def _shortest(words: Mapping[str, Word]) -> Mapping[str, Word]:
    """Return the words by the ends of the conditions' names where the end alone decides, else as they are.

    "a, warm" and "b, warm", both refuted, become "warm (all 2)" where every other end has one word too.
    """
    ends = grouped(words, lambda name: name.rpartition(", ")[2])
    decides = all(len({words[name] for name in names}) == 1 for names in ends.values())
    if not decides or len(ends) == len(words):
        return words
    return {
        f"{_common_end(names)} (all {len(names)})" if len(names) > 1 else names[0]: words[names[0]]
        for names in ends.values()
    }


def _common_end(names: Sequence[str]) -> str:
    """Return the end that all names share, in whole parts between commas."""
    split = [name.split(", ")[::-1] for name in names]
    same = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*split, strict=False))
    return ", ".join(parts[0] for parts in list(same)[::-1])


def names_in(rule: Mapping[str, Any]) -> set[str]:
    """Return the names of the numbers that the deciding expressions of a rule read."""
    trees = (parsed(rule[word]) for word in DECIDING)
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
    return isinstance(node, (*SYNTAX, *ARITHMETIC, *COMPARISONS))


def _value(node: ast.expr, numbers: Mapping[str, float | None]) -> Any:
    """Evaluate in three values: what is not known is None, and `1 > 0 or unknown > 0` holds all the same."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return numbers[node.id]
        case ast.BoolOp():
            return _joined(isinstance(node.op, ast.Or), [_value(value, numbers) for value in node.values])
        case ast.UnaryOp():
            function = operator.not_ if isinstance(node.op, ast.Not) else operator.neg
            return _known(function, _value(node.operand, numbers))
        case ast.BinOp():
            return _known(ARITHMETIC[type(node.op)], _value(node.left, numbers), _value(node.right, numbers))
        case ast.Call():
            return _known(FUNCTIONS[node.func.id], *(_value(argument, numbers) for argument in node.args))
        case ast.Compare():
            sides = [_value(side, numbers) for side in (node.left, *node.comparators)]
            pairs = zip(node.ops, sides, sides[1:], strict=False)
            return _joined(False, [_known(COMPARISONS[type(op)], one, other) for op, one, other in pairs])


def _known(function: Callable[..., Any], *values: Any) -> Any:
    return None if any(value is None for value in values) else function(*values)


def _joined(decides: bool, values: list[bool | None]) -> bool | None:
    """Return `or` of the values where `decides` is True, else `and`: one value that decides is enough."""
    if decides in values:
        return decides
    return None if None in values else not decides
