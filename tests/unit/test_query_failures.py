"""What a failed query means, by the text that Spark gives."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from streaming_regression.app import _explain
from streaming_regression.errors import Refused, ServerUnavailable
from streaming_regression.settings import load

SETTINGS = load(["--server-timeout-s", "60", "--checkpoint", "/c"])
HEAD = "[STREAM_FAILED] Query [id = 1, runId = 2] terminated with exception: "


def explain(text: str, since_s: float = 0.0) -> None:
    regression: Any = SimpleNamespace(last_success=time.monotonic() - since_s)
    failure: Any = RuntimeError(HEAD + text)
    _explain(failure, SETTINGS, regression)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "x\norg.apache.spark.sql.kafka010.KafkaIllegalStateException: "
            "[KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE] Some data may have been lost.\n\tat a.b",
            "Some data may have been lost; going on would",
        ),
        (
            "x\nCaused by: org.apache.kafka.clients.consumer.OffsetOutOfRangeException: "
            "Fetch position 10 is out of range\n",
            "Fetch position 10 is out of range; going on would",
        ),
    ],
)
def test_lost_offsets_are_refused_with_what_is_known(text: str, found: str) -> None:
    with pytest.raises(Refused) as error:
        explain(text)
    assert str(error.value).startswith("records that were not yet read are gone from Kafka")
    assert found in str(error.value)


def test_a_checkpoint_in_use_is_refused() -> None:
    with pytest.raises(Refused, match="another driver uses the checkpoint /c at the same time"):
        explain("[CONCURRENT_STREAM_LOG_UPDATE] Concurrent update to the log. Multiple streaming jobs detected for 3.")


@pytest.mark.parametrize(
    "cause",
    [
        "org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment.",
        "org.apache.kafka.common.errors.DisconnectException",
        "org.apache.kafka.common.errors.UnknownTopicOrPartitionException: This server does not host it.",
    ],
)
def test_a_fault_of_kafkas_that_may_pass_is_waited_for_until_the_timeout(cause: str) -> None:
    text = f"x\n\tat a.b\nCaused by: {cause}\n"
    explain(text, since_s=10)
    with pytest.raises(ServerUnavailable, match=r"gave up after 6\d s \(--server-timeout-s\)"):
        explain(text, since_s=61)


def test_rights_that_were_taken_away_are_named() -> None:
    cause = "org.apache.kafka.common.errors.TopicAuthorizationException: Not authorized to access topics: [train]"
    with pytest.raises(Refused, match=r"user .anonymous. read topic train,test: it needs the ACL Read on it"):
        explain(f"x\nCaused by: {cause}\n")


def test_anything_else_is_a_bug_and_keeps_its_stack_trace() -> None:
    with pytest.raises(RuntimeError, match="Py4JException"):
        explain("x\npy4j.Py4JException: An exception was raised by the Python Proxy: KeyError: 'x'")
