"""Runs a slow request once for all clients that need its answer; a slow Elasticsearch does not block the server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from dashboards.errors import ServerUnavailable

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")
FRESH_S = 1.0
WITHIN_S = 12.0  # less than the browser's limit of 15 s
SEARCHES = 4
CHOICES = 32
WAITING = 256


class Answers(Generic[Key, Answer]):
    """Calls `ask(key)` in a thread, once for all concurrent requests for the same key.

    An answer is reused for FRESH_S seconds. At most SEARCHES calls run, CHOICES keys are pending and WAITING requests
    wait at the same time; further requests are refused at once. No request waits for longer than WITHIN_S seconds.
    """

    def __init__(self, ask: Callable[[Key], Answer]) -> None:
        self._ask = ask
        self._running: dict[Key, asyncio.Task[Answer]] = {}
        self._fresh: dict[Key, tuple[float, Answer]] = {}
        self._slots = asyncio.Semaphore(SEARCHES)
        self._waiting = 0
        self._stopped = False

    async def get(self, key: Key) -> Answer:
        """Return the answer for a key, or raise the error that `ask` raised.

        Raises
        ------
        ServerUnavailable
            When no answer comes in time, too many requests are waiting, or the program is ending.
        """
        now = time.monotonic()
        self._fresh = {known: found for known, found in self._fresh.items() if found[0] > now}
        if key in self._fresh:
            return self._fresh[key][1]
        full = key not in self._running and len(self._running) >= CHOICES
        if full or self._waiting >= WAITING or self._stopped:
            raise ServerUnavailable(
                f"Elasticsearch is slow or does not answer, and {self._waiting} requests are already waiting for it: "
                "try again later"
            )
        task = self._running.get(key) or self._start(key)
        self._waiting += 1
        try:
            await asyncio.wait({task}, timeout=WITHIN_S)
        finally:
            self._waiting -= 1
        if task.cancelled():
            raise ServerUnavailable("the live page's server is stopping")
        if not task.done():
            raise ServerUnavailable(f"Elasticsearch has not answered within {WITHIN_S:g} seconds")
        return task.result()

    def stop(self) -> None:
        """Refuse waiting and new requests at once; calls in progress are abandoned. Call it in the event loop."""
        self._stopped = True
        for task in self._running.values():
            task.cancel()

    def _start(self, key: Key) -> asyncio.Task[Answer]:
        def ended(task: asyncio.Task[Answer]) -> None:
            del self._running[key]
            if not task.cancelled():
                task.exception()  # else asyncio warns of an unread error if no request is left

        task = self._running[key] = asyncio.create_task(self._run(key))
        task.add_done_callback(ended)
        return task

    async def _run(self, key: Key) -> Answer:
        async with self._slots:
            answer = await _in_thread(lambda: self._ask(key))
        self._fresh[key] = time.monotonic() + FRESH_S, answer
        return answer


async def _in_thread(call: Callable[[], Answer]) -> Answer:
    """Run `call` in a daemon thread: unlike an executor's thread, it does not delay the end of the program."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def run() -> None:
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001 - raised again where the answer is awaited
            set_in_loop(future.set_exception, error)
        else:
            set_in_loop(future.set_result, answer)

    def set_in_loop(settle: Callable[..., None], outcome: object) -> None:
        with suppress(RuntimeError):  # the loop is closed because the program ends
            loop.call_soon_threadsafe(lambda: None if future.done() else settle(outcome))

    threading.Thread(target=run, daemon=True).start()
    return await future
