"""A measure's formula: what it says, as Elasticsearch aggregations, and their value."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
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


def aggregations(expression: Expression) -> dict[str, Any]:
    """Return the aggregations of a search, by names that `value` knows."""
    return {_name(call): call.aggregation for call in calls(expression)}


def value(expression: Expression, results: Mapping[str, Any]) -> float | None:
    """Return the formula's value for a bucket's `results`, None where it has none: no documents, division by zero."""
    match expression:
        case Call():
            found = results[_name(expression)]["value"]
            return None if found is None else float(found)
        case Operation(operator=op, left=left, right=right):
            a, b = value(left, results), value(right, results)
            if a is None or b is None or (op is ast.Div and b == 0):
                return None
            return OPERATORS[op][1](a, b)
        case _:
            return expression


def _name(call: Call) -> str:
    return f"{call.function} {call.field}"
