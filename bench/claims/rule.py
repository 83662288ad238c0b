"""Decision rules: comparisons of named numbers, read from a claim file and never run as code."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from bench.tying.errors import BadInput

SUPPORTED, CONTRADICTED, NOT_SUPPORTED = "supported", "contradicted", "not supported"

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


def verdict(rule: Mapping[str, Any], numbers: Mapping[str, float | None]) -> str | None:
    """Return supported, contradicted or not supported, None where a number that decides is not known.

    BadInput for a bad expression, and where both of the rule hold.
    """
    pro, contra = holds(rule["supported"], numbers), holds(rule["contradicted"], numbers)
    if pro and contra:
        raise BadInput(
            "the rule says both supported and contradicted: let its two expressions exclude each other"
        )
    if pro or contra:
        return SUPPORTED if pro else CONTRADICTED
    return None if pro is None or contra is None else NOT_SUPPORTED


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
