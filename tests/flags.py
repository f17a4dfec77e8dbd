"""Command lines of tests: what a test gives replaces what its fixtures give, for programs take a flag once only."""

from __future__ import annotations

from collections.abc import Sequence


def last_of_each(words: Sequence[str]) -> list[str]:
    """Return a command line in which each flag that is there several times is so only with its last value."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--") or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    last = {group[0].partition("=")[0]: number for number, group in enumerate(groups)}
    return [word for number, group in enumerate(groups) if last[group[0].partition("=")[0]] == number for word in group]
