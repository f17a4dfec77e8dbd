"""Command lines of tests: a test's flags replace those of its fixtures, because programs accept a flag only once."""

from __future__ import annotations

from collections.abc import Sequence


def last_flags(words: Sequence[str]) -> list[str]:
    """Return a command line with each flag once, with its last value; `--no-x` counts as a value of `--x`."""
    groups: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word.partition("=")[0].removeprefix("--no-").removeprefix("--")
            groups.pop(name, None)
        groups.setdefault(name, []).append(word)
    return [word for group in groups.values() for word in group]
