"""A measure's formula: what it says, as Elasticsearch aggregations, and their value."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AGGREGATIONS = {"sum": "sum", "average": "avg", "min": "min", "max": "max"}
OPERATORS: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("subtract", operator.sub),
    ast.Mult: ("multiply", operator.mul),
    ast.Div: ("divide", operator.truediv),
}


@dataclass(frozen=True, slots=True)
class Call:
    """An aggregation over a field."""

    function: str
    field: str

    @property
    def aggregation(self) -> dict[str, Any]:
        """In Elasticsearch's words."""
        return {AGGREGATIONS[self.function]: {"field": self.field}}


@dataclass(frozen=True, slots=True)
class Operation:
    """Arithmetic on two parts."""

    operator: type[ast.operator]
    left: Expression
    right: Expression
    text: str
    start: int
    end: int


Expression = Call | Operation | float


def parse(formula: str) -> Expression:
    """Return what a formula says."""
    return _expression(ast.parse(formula, mode="eval").body, formula)


def _expression(node: ast.expr, formula: str) -> Expression:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Call(func=ast.Name(id=function), args=[ast.Name(id=field) | ast.Constant(value=str() as field)]) if (
            function in AGGREGATIONS
        ):
            return Call(function, field)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            start, end = node.col_offset, node.end_col_offset or len(formula)
            parts = _expression(left, formula), _expression(right, formula)
            return Operation(type(op), *parts, ast.get_source_segment(formula, node) or "", start, end)
    raise ValueError(f"{ast.unparse(node)} is none of: a number, + - * /, {', '.join(AGGREGATIONS)} of a field")


def calls(expression: Expression) -> list[Call]:
    """Return the aggregations, from left to right; one that stands there twice comes twice."""
    match expression:
        case Call():
            return [expression]
        case Operation(left=left, right=right):
            return calls(left) + calls(right)
    return []


def aggregations(expressions: Sequence[Expression]) -> dict[str, Any]:
    """Return the aggregations of a search for all of some formulas, each once, by names that `values` knows.

    The names are numbered: a field's name may hold what Elasticsearch refuses in the name of an aggregation.
    """
    return {name: call.aggregation for call, name in _names(expressions).items()}


def values(expressions: Sequence[Expression], results: Mapping[str, Any]) -> list[float | None]:
    """Return each formula's value for a bucket's `results`.

    It is None where there is none: no documents, a division by zero, or a number beyond the range of float64.
    """
    known = {call: results[name]["value"] for call, name in _names(expressions).items()}
    found = [_value(expression, known) for expression in expressions]
    return [one if one is not None and math.isfinite(one) else None for one in found]


def _names(expressions: Sequence[Expression]) -> dict[Call, str]:
    distinct = dict.fromkeys(call for expression in expressions for call in calls(expression))
    return {call: f"a{number}" for number, call in enumerate(distinct)}


def _value(expression: Expression, known: Mapping[Call, Any]) -> float | None:
    match expression:
        case Call():
            found = known[expression]
            return None if found is None else float(found)
        case Operation(operator=op, left=left, right=right):
            a, b = _value(left, known), _value(right, known)
            if a is None or b is None or (op is ast.Div and b == 0):
                return None
            return OPERATORS[op][1](a, b)
        case _:
            return expression
