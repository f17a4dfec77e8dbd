"""Waits for a condition instead of sleeping for a fixed time."""

import time
from collections.abc import Callable


def wait_until(missing: Callable[[], str], timeout_s: float, poll_s: float = 0.1) -> None:
    """Return once `missing()` returns an empty text; after `timeout_s` seconds, fail with the text it returned last."""
    deadline = time.monotonic() + timeout_s
    while text := missing():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s: {text}")
        time.sleep(poll_s)
