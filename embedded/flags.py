"""A check of the flags of this program and of the demo; the other parts check theirs in the same way."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def check_once(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """End the program with exit code 2 if a flag is given twice, because it is unclear which value counts."""
    seen: set[str] = set()
    for word in argv:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag in seen:
            parser.error(f"{flag} is given twice: give it once")
        seen.add(flag)
