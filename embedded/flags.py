"""What holds for the flags of all programs here, as for those of the other parts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def check_once(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """End the program with exit code 2 where a flag is given twice: the one that counts would be a guess."""
    seen: set[str] = set()
    for word in argv:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag in seen:
            parser.error(f"{flag} is given twice: give it once")
        seen.add(flag)
