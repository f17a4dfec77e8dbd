"""Command lines of tests: what a test gives replaces what its fixtures give, for programs take a flag once only."""

from __future__ import annotations

from collections.abc import Sequence


def last_of_each(words: Sequence[str]) -> list[str]:
    """Return a command line in which each flag stands once, with its last value; `--no-x` is a value of `--x`."""
    groups: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.partition("=")[0].removeprefix("--no-").removeprefix("--")
            groups.pop(name, None)
        groups.setdefault(name, []).append(word)
    return [word for group in groups.values() for word in group]
