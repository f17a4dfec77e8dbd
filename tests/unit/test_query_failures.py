"""The errors of a failed query, recognised in the text of Spark's exception."""

from __future__ import annotations

from typing import Any

import pytest

from streaming_regression.errors import ConfigError, KafkaUnavailable, Refused, StreamError, TopicMissing, WorkerLate
from streaming_regression.spark import query

HEAD = "[STREAM_FAILED] Query [id = 1, runId = 2] terminated with exception: "
SOURCE = (
    "[PYTHON_STREAMING_DATA_SOURCE_RUNTIME_ERROR] Failed when running Python streaming data source: latestOffset\n"
    'Traceback (most recent call last):\n  File "ranges.py", line 1, in latestOffset\n'
)


def cause(text: str) -> Exception:
    failure: Any = RuntimeError(HEAD + text)
    return query.cause(failure, "/c")


def check_passing(error: Exception, since_s: float) -> None:
    query.check_passing(error, since_s, timeout_s=60)


@pytest.mark.parametrize("error", [Refused, ConfigError, KafkaUnavailable, TopicMissing])
def test_an_error_of_the_source_comes_from_its_process_as_it_was(error: type[StreamError]) -> None:
    found = cause(f"{SOURCE}streaming_regression.errors.{error.__name__}: what is wrong: x\n\n\tat a.b\n")
    assert type(found) is error
    assert str(found) == "what is wrong: x"


def test_a_checkpoint_in_use_is_refused() -> None:
    text = "[CONCURRENT_STREAM_LOG_UPDATE] Concurrent update to the log. Multiple streaming jobs detected for 3."
    found = cause(text)
    assert isinstance(found, Refused)
    assert "another driver uses the checkpoint /c at the same time" in str(found)


def test_a_worker_that_starts_late_on_a_busy_machine_is_started_again() -> None:
    found = cause("Python worker failed to connect back. SQLSTATE: XXKST")
    assert isinstance(found, WorkerLate)
    check_passing(found, since_s=10)


@pytest.mark.parametrize("error", [KafkaUnavailable("away"), TopicMissing("away")])
def test_a_fault_of_kafkas_that_may_pass_is_waited_for_until_the_timeout(error: StreamError) -> None:
    check_passing(error, since_s=10)
    with pytest.raises(type(error), match=r"away; gave up after 61 s \(--server-timeout-s\)"):
        check_passing(error, since_s=61)


@pytest.mark.parametrize("error", [Refused("x"), ConfigError("x"), RuntimeError("x")])
def test_a_fault_that_cannot_pass_ends_the_program_at_once(error: Exception) -> None:
    with pytest.raises(type(error), match=r"^x$"):
        check_passing(error, since_s=0)


def test_anything_else_is_a_bug_and_keeps_its_stack_trace() -> None:
    found = cause("x\npy4j.Py4JException: An exception was raised by the Python Proxy: KeyError: 'x'")
    assert isinstance(found, RuntimeError)
