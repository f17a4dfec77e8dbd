"""The state of the model and of its health after each micro-batch, in the checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import numpy as np

from streaming_regression.errors import Refused
from streaming_regression.files import JAVA_ERRORS, REMEDY, Files, java_message
from streaming_regression.health import Health
from streaming_regression.kafka.errors import recreated
from streaming_regression.learners import Learner, Model
from streaming_regression.records import Fields

FORMAT = 2
FOLDER = "model"
BEGINNING = f"{FOLDER}/beginning"
LONGEST = 300  # characters of a list in a message
PROBE = f"{FOLDER}/.probe.tmp"
Offsets = dict[str, dict[str, int]]
"""Topic → partition → offset of the next record, as in Spark's offset log."""


@dataclass(frozen=True, slots=True)
class State:
    """The content of the checkpoint after a micro-batch."""

    model: Model
    health: Health


@dataclass(frozen=True, slots=True)
class Identity:
    """The settings and topics that a checkpoint's model depends on: with others the model would be wrong."""

    fields: Fields
    learner: Learner
    topics: tuple[str, str]
    topic_ids: tuple[str, ...]


def in_use(checkpoint: str) -> str:
    """Return the message for a checkpoint into which another driver has written."""
    return (
        f"another driver uses the checkpoint {checkpoint} at the same time: stop one of the two, or give this one "
        "another --checkpoint and --index-prefix"
    )


class StateStore:
    """Model states, one JSON file per micro-batch: `<checkpoint>/model/<batch>.json`; the last `keep` are kept."""

    def __init__(self, files: Files, identity: Identity, keep: int) -> None:
        self.files = files
        self._identity = identity
        self._keep = keep
        self._run: str | None = None

    def run(self) -> str | None:
        """Return the query's id, which is written once per checkpoint, before the query starts; None if it is new."""
        if self._run is None:
            text = self.files.read("metadata")
            with self._parse_errors_as_refused("metadata"):
                self._run = text if text is None else str(json.loads(text)["id"])
        return self._run

    def begin(self) -> str:
        """Return the query's id; for a new checkpoint, first write a new id to the file from which Spark reads it.

        So the run is known, and can claim its indices, before the query starts.
        """
        if self.run() is None:
            with self._java_errors_as_config_errors():
                self.files.write("metadata", json.dumps({"id": str(uuid4())}))
        run = self.run()
        assert run is not None  # noqa: S101 - written above, or by another driver
        return run

    def began(self, batch: int) -> datetime:
        """Return when micro-batch `batch` began, in UTC, from Spark's offset log: a replay gets the same time."""
        text = self.files.read(_offsets(batch)) or ""
        with self._parse_errors_as_refused(_offsets(batch)):
            (milliseconds,) = re.findall(r'"batchTimestampMs":(\d+)', text)
            return datetime.fromtimestamp(int(milliseconds) / 1000, timezone.utc)

    def end_offsets(self, batch: int) -> Offsets:
        """Return topic → partition → offset after the last record of micro-batch `batch`, from Spark's offset log."""
        text = self.files.read(_offsets(batch))
        with self._parse_errors_as_refused(_offsets(batch)):
            if not text:
                raise ValueError("it is missing or empty")
            offsets: Offsets = json.loads(text.splitlines()[-1])
        return offsets

    def beginning(self, first: Callable[[], Offsets]) -> Offsets:
        """Return where the run began, in the form of `end_offsets`.

        A new run begins at `first()`. The checkpoint keeps these offsets, because a replay of the first micro-batch
        must begin there too, even if Kafka has deleted records since. The result is empty for a run that began with an
        older version, which did not keep them.
        """
        text = self.files.read(BEGINNING)
        if text is None:
            if self._batches():
                return {}
            text = json.dumps(first())
            with self._java_errors_as_config_errors():
                self.files.write(BEGINNING, text)
        with self._parse_errors_as_refused(BEGINNING):
            return dict(json.loads(text))

    def position(self) -> Offsets:
        """Return where the micro-batch after the newest state begins, as `end_offsets` does; empty for a new run."""
        batches = self._batches()
        return self.end_offsets(batches[-1]) if batches else {}

    def check(self) -> None:
        """Check that the checkpoint is writable and consistent.

        Raises
        ------
        ConfigError
            When it is not writable.
        Refused
            When metadata or offsets of the newest state are missing.
        """
        with self._java_errors_as_config_errors():
            self.files.write_aside(PROBE, "")
            self.files.delete(PROBE)
            batches = self._batches()
        # Without them Spark would number its micro-batches from 0 again, and the old states would make them look done.
        if batches and not (self.files.exists(_offsets(batches[-1])) and self.run()):
            raise Refused(
                f"checkpoint {self.files.checkpoint} is incomplete: model/{batches[-1]}.json exists, but metadata or "
                f"offsets/{batches[-1]} of the same micro-batch does not: {REMEDY}"
            )

    def load(self, batch: int) -> State | None:
        """Return the state after micro-batch `batch`, None where there is none.

        States of older versions have no health: it begins anew.

        Raises
        ------
        Refused
            When the state has other features, label, learner or topics than the settings, or is damaged.
        """
        text = self.files.read(_state(batch))
        if text is None:
            return None
        size = len(self._identity.fields.layout.columns) + 1
        with self._parse_errors_as_refused(_state(batch)):
            state = _converted(dict(json.loads(text)))
            self._check(state)
            weights = np.array(state["weights"], np.float64).reshape(size)
            memory, centre = self._identity.learner.memory_from_json(state["memory"]), state["centre"]
            if centre is not None:
                centre = np.array(centre, np.float64).reshape(size - 1)
            warned = frozenset(map(int, state["warned"]))
            model = Model(weights, int(state["rows_seen"]), memory, centre, float(state["level"]), warned)
            return State(model, Health.from_json(state["health"]) if "health" in state else Health())

    def save(self, batch: int, after: State) -> None:
        """Write the state after micro-batch `batch`: a reader sees all of it or none."""
        model = after.model
        state = {
            **self._identity_fields(),
            "batch": batch,
            "rows_seen": model.rows_seen,
            "weights": model.weights.tolist(),
            "centre": None if model.centre is None else model.centre.tolist(),
            "level": model.level,
            "warned": sorted(model.warned),
            "memory": self._identity.learner.memory_to_json(model.memory),
            "health": after.health.to_json(),
        }
        try:
            written = self.files.write(_state(batch), json.dumps(state))
            self.files.delete(_state(batch - self._keep))
        except JAVA_ERRORS as error:
            raise Refused(f"{self.files.full(_state(batch))} could not be written: {java_message(error)}") from error
        if not written:
            raise Refused(in_use(self.files.checkpoint))

    def prune(self) -> State | None:
        """Delete all but the newest `keep` states, and temporary files left by a crash; return the newest state."""
        batches = self._batches()
        newest = self.load(batches[-1]) if batches else None
        stale = [f"{batch}.json" for batch in batches[: -self._keep]]
        for name in stale + [name for name in self.files.names(FOLDER) if name.endswith(".tmp")]:
            self.files.delete(f"{FOLDER}/{name}")
        return newest

    def _batches(self) -> list[int]:
        return sorted(
            int(match[1]) for name in self.files.names(FOLDER) if (match := re.fullmatch(r"(\d+)\.json", name))
        )

    @contextmanager
    def _java_errors_as_config_errors(self) -> Iterator[None]:
        try:
            yield
        except JAVA_ERRORS as error:
            raise self.files.unusable(error) from error

    @contextmanager
    def _parse_errors_as_refused(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{self.files.full(name)} of the checkpoint is damaged ({error}): {REMEDY}") from error

    def _identity_fields(self) -> dict[str, Any]:
        identity = self._identity
        return {
            "format": FORMAT,
            "features": list(identity.fields.features),
            "label": identity.fields.label,
            "learner": identity.learner.name,
            "topics": list(identity.topics),
            "topic_ids": list(identity.topic_ids),
        }

    def _check(self, state: dict[str, Any]) -> None:
        settings = {
            "format": "the format of this version of the program",
            "features": "--features",
            "label": "--label",
            "learner": "--learner",
            "topics": "--kafka-train-topic and --kafka-test-topic",
        }
        for key, mine in self._identity_fields().items():
            found = state[key]
            if found == mine:
                continue
            if key == "topic_ids":
                changed = [name for name, old, new in zip(state["topics"], found, mine, strict=True) if old != new]
                raise recreated(" and ".join(changed))
            raise Refused(
                f"checkpoint {self.files.checkpoint} holds a model with {key} {_as_text(found)}, but "
                f"{settings[key]} is {_as_text(mine)}: change it back, or start a new run with another "
                "--checkpoint and --index-prefix"
            )


def _converted(state: dict[str, Any]) -> dict[str, Any]:
    """Convert a state of format 1 to the current format: its model has no centre."""
    return state if state["format"] != 1 else {**state, "format": FORMAT, "centre": None, "level": 0.0, "warned": []}


def _offsets(batch: int) -> str:
    return f"offsets/{batch}"


def _state(batch: int) -> str:
    return f"{FOLDER}/{batch}.json"


def _as_text(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if isinstance(value, list) and len(text) > LONGEST:
        return f"{text[:LONGEST]}… ({len(value):,} in all)"
    return text
