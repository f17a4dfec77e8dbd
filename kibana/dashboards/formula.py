"""The formula of a measure: its parsing, its Elasticsearch aggregations, and its value."""

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

SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@dataclass(frozen=True, slots=True)
class Call:
    """An aggregation over a field."""

    function: str
    field: str

    @property
    def aggregation(self) -> dict[str, Any]:
        """The aggregation in Elasticsearch's query language."""
        return {AGGREGATIONS[self.function]: {"field": self.field}}


@dataclass(frozen=True, slots=True)
class Operation:
    """An arithmetic operation on two expressions; `text`, `start` and `end` locate it in the formula."""

    operator: type[ast.operator]
    left: Expression
    right: Expression
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Root:
    """The square root of an expression; `text`, `start` and `end` locate it in the formula."""

    argument: Expression
    text: str
    start: int
    end: int


Expression = Call | Operation | Root | float


def parse(formula: str) -> Expression:
    """Return a formula as an expression; ValueError for a syntax that is not supported."""
    return _expression(ast.parse(formula, mode="eval").body, formula)


def _expression(node: ast.expr, formula: str) -> Expression:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Call(func=ast.Name(id=function), args=[ast.Name(id=field) | ast.Constant(value=str() as field)]) if (
            function in AGGREGATIONS
        ):
            return Call(function, field)
        case ast.Call(func=ast.Name(id="sqrt"), args=[argument], keywords=[]):
            start, end = node.col_offset, node.end_col_offset or len(formula)
            return Root(_expression(argument, formula), ast.get_source_segment(formula, node) or "", start, end)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            start, end = node.col_offset, node.end_col_offset or len(formula)
            parts = _expression(left, formula), _expression(right, formula)
            return Operation(type(op), *parts, ast.get_source_segment(formula, node) or "", start, end)
    raise ValueError(f"{ast.unparse(node)} is not a number, + - * /, sqrt, or {', '.join(AGGREGATIONS)} of a field")


def calls(expression: Expression) -> list[Call]:
    """Return the aggregations from left to right, including repetitions."""
    match expression:
        case Call():
            return [expression]
        case Operation(left=left, right=right):
            return calls(left) + calls(right)
        case Root(argument=argument):
            return calls(argument)
    return []


def aggregations(expressions: Sequence[Expression]) -> dict[str, Any]:
    """Return the aggregations that a search needs for some formulas, each once, by the names that `values` uses.

    The names are numbered, because Elasticsearch does not allow every field name as the name of an aggregation.
    """
    return {name: call.aggregation for call, name in _names(expressions).items()}


def values(expressions: Sequence[Expression], results: Mapping[str, Any]) -> list[float | None]:
    """Return each formula's value for a bucket's `results`.

    It is None for no documents, a division by zero, the root of a negative number, or a number beyond the range of
    float64.
    """
    known = {call: results[name]["value"] for call, name in _names(expressions).items()}
    found = [_value(expression, known) for expression in expressions]
    return [value if value is not None and math.isfinite(value) else None for value in found]


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
        case Root(argument=argument):
            a = _value(argument, known)
            return None if a is None or a < 0 else math.sqrt(a)
        case _:
            return expression


def vega(expression: Expression, expressions: Sequence[Expression], bucket: str) -> str:
    """Return the expression of Vega for the value of one of `expressions`, from the aggregations of a `bucket`.

    It is NaN or infinite where `values` returns None.
    """
    names = _names(expressions)

    def written(part: Expression) -> str:
        match part:
            case Call(function="sum"):
                return f"{bucket}.{names[part]}.value"
            case Call():
                found = f"{bucket}.{names[part]}.value"
                return f"(isValid({found}) ? {found} : NaN)"
            case Operation(operator=op, left=left, right=right):
                return f"({written(left)} {SIGNS[op]} {written(right)})"
            case Root(argument=argument):
                return f"sqrt({written(argument)})"
            case _:
                return repr(part)

    return written(expression)
