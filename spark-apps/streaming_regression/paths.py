"""Finds a feature or label in a record: a key of that name, else a path through objects and arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

Record = dict[str, Any]
MISSING = object()
JSON_TYPES = {
    str: "a string",
    bytes: "bytes",  # of Avro
    bool: "a boolean",
    list: "an array",
    dict: "an object",
    int: "a number",
    float: "a number",
}


@cache
def keys(name: str) -> tuple[str, ...]:
    r"""Return the keys of the path that a name stands for.

    Examples
    --------
    >>> keys("data.0.v")
    ('data', '0', 'v')
    >>> keys(r"sensor\.1.v")
    ('sensor.1', 'v')
    >>> keys(r"speed \[m|s]")
    ('speed [m|s]',)
    """
    return tuple(re.sub(r"\\([.\[])", r"\1", key) for key in re.split(r"(?<!\\)\.", name))


def position(key: str) -> int | None:
    """Return the position in an array for which a key stands, or None; the first has position 0."""
    return int(key) if re.fullmatch("0|[1-9][0-9]{0,8}", key) else None


def picker(names: Sequence[str]) -> Callable[[Record], tuple[Any, ...]]:
    """Return a function that returns a record's values for two or more names.

    A record that has all names as keys costs no more than a look-up by key. For a record without one of the values,
    the function raises LookupError or TypeError.
    """
    by_key: Callable[[Record], tuple[Any, ...]] = itemgetter(*names)
    if not any("." in name or "\\" in name for name in names):
        return by_key
    getters = [_getter(name) for name in names]

    def pick(record: Record) -> tuple[Any, ...]:
        try:
            return by_key(record)
        except KeyError:
            return tuple([get(record) for get in getters])

    return pick


def _getter(name: str) -> Callable[[Record], object]:
    if "." not in name and "\\" not in name:
        return itemgetter(name)
    top, *others = keys(name)
    steps = [(key, position(key)) for key in others]

    def through_objects(record: Record) -> object:
        if name in record:
            return record[name]
        value = record[top]
        for key in others:
            value = value[key]
        return value

    def through_arrays(record: Record) -> object:
        if name in record:
            return record[name]
        value = record[top]
        for key, place in steps:
            value = value[place if type(value) is list and place is not None else key]
        return value

    return through_objects if all(place is None for _, place in steps) else through_arrays


def find(record: Record, name: str) -> tuple[object, str]:
    """Return a record's value for a name and "", or `MISSING` and where the path ends.

    The place consists of keys of the name and of kinds of JSON values, so it contains nothing of the record's content.
    """
    if name in record:
        return record[name], ""
    value: object = record
    path = keys(name)
    for depth, key in enumerate(path):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and (place := position(key)) is not None and place < len(value):
            value = value[place]
        else:
            return MISSING, _end(value, path[:depth])
    return value, ""


def _end(value: object, path: tuple[str, ...]) -> str:
    """Return where a path ends: `value` is what `path` leads to, and does not contain the next key."""
    if not path:
        return ""
    where = ".".join(key.replace(".", "\\.") for key in path)
    if isinstance(value, dict):
        return f"not in {where}"
    if isinstance(value, list):
        return f"not in {where}, an array"
    return f"{where} is {kind(value)}"


def kind(value: object) -> str:
    """Return what a value of JSON is, with its article."""
    return "null" if value is None else JSON_TYPES.get(type(value), "a value of another type")
