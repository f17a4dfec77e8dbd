"""The model's state after each micro-batch, in the checkpoint, written atomically through Hadoop's FileSystem."""

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
from py4j.java_gateway import JavaObject, JVMView
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from streaming_regression.errors import ConfigError, Refused
from streaming_regression.kafka.errors import recreated
from streaming_regression.learners import Model, Statistics
from streaming_regression.records import Fields

FORMAT = 2
JAVA_ERRORS = (Py4JJavaError, PySparkException)
"""Exceptions of a call into Java: PySpark converts some, such as IllegalArgumentException, into its own."""
Offsets = dict[str, dict[str, int]]
"""Topic → partition → offset of the next record, as in Spark's offset log."""
REMEDY = "restore the folder from a backup, or start a new run with another --checkpoint and --index-prefix"


@dataclass(frozen=True, slots=True)
class Identity:
    """The settings and topics that a checkpoint's model depends on: with others the model would be wrong."""

    fields: Fields
    learner: str
    topics: tuple[str, str]
    topic_ids: tuple[str, ...]


def in_use(checkpoint: str) -> str:
    """Return the message for a checkpoint into which another driver has written."""
    return (
        f"another driver uses the checkpoint {checkpoint} at the same time: stop one of the two, or give this one "
        "another --checkpoint and --index-prefix"
    )


class StateStore:
    """Model states, one JSON file per micro-batch: `<checkpoint>/model/<batch>.json`.

    The checkpoint may be in any file system that Hadoop supports (a PVC, HDFS, S3). On a local file system a file is
    synced before it is renamed, so that a power failure cannot leave half a state.
    """

    def __init__(self, jvm: JVMView, hadoop_conf: JavaObject, checkpoint: str, identity: Identity, keep: int) -> None:
        self._path = jvm.org.apache.hadoop.fs.Path
        with _java_errors_as_config_errors(checkpoint):
            self._checkpoint = self._path(checkpoint)
            self._folder = self._path(self._checkpoint, "model")
            # A separate instance that writes no checksum files: a file and its checksum cannot be renamed in one step.
            self._fs = jvm.org.apache.hadoop.fs.FileSystem.newInstance(self._folder.toUri(), hadoop_conf)
            self._fs.setWriteChecksum(False)
        self._identity = identity
        self._keep = keep
        self._run: str | None = None

    @property
    def local(self) -> bool:
        """Whether the checkpoint is in a file system of this machine, including mounted ones."""
        return bool(self._fs.getUri().getScheme() == "file")

    def run(self) -> str | None:
        """Return the query's id, which is written once per checkpoint, before the query starts; None if it is new."""
        if self._run is None:
            file = self._path(self._checkpoint, "metadata")
            text = self._read(file)
            with _parse_errors_as_refused(file):
                self._run = text if text is None else str(json.loads(text)["id"])
        return self._run

    def begin(self) -> str:
        """Return the query's id; for a new checkpoint, first write a new id to the file from which Spark reads it.

        So the run is known, and can claim its indices, before the query starts.
        """
        if self.run() is None:
            file, aside = self._path(self._checkpoint, "metadata"), self._path(self._folder, ".metadata.tmp")
            with _java_errors_as_config_errors(str(self._checkpoint)):
                self._write(aside, json.dumps({"id": str(uuid4())}))
                self._fs.rename(aside, file)
        run = self.run()
        assert run is not None  # noqa: S101 - written above, or by another driver
        return run

    def began(self, batch: int) -> datetime:
        """Return when micro-batch `batch` began, in UTC, from Spark's offset log: a replay gets the same time."""
        text = self._read(self._offsets(batch)) or ""
        with _parse_errors_as_refused(self._offsets(batch)):
            (milliseconds,) = re.findall(r'"batchTimestampMs":(\d+)', text)
            return datetime.fromtimestamp(int(milliseconds) / 1000, timezone.utc)

    def end_offsets(self, batch: int) -> Offsets:
        """Return topic → partition → offset after the last record of micro-batch `batch`, from Spark's offset log."""
        text = self._read(self._offsets(batch))
        with _parse_errors_as_refused(self._offsets(batch)):
            if not text:
                raise ValueError("it is missing or empty")
            offsets: Offsets = json.loads(text.splitlines()[-1])
        return offsets

    def beginning(self, first: Callable[[], Offsets]) -> Offsets:
        """Return where the run began, in the form of `end_offsets`.

        A new run begins at `first()`, which is kept: a replay of the first micro-batch must begin there too, whatever
        Kafka has deleted since. Empty for a run of a version that did not keep it.
        """
        file, aside = self._path(self._folder, "beginning"), self._path(self._folder, ".beginning.tmp")
        text = self._read(file)
        if text is None:
            if self._batches():
                return {}
            text = json.dumps(first())
            with _java_errors_as_config_errors(str(self._checkpoint)):
                self._write(aside, text)
                self._fs.rename(aside, file)
        with _parse_errors_as_refused(file):
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
        with _java_errors_as_config_errors(str(self._checkpoint)):
            probe = self._path(self._folder, ".probe.tmp")
            self._write(probe, "")
            self._fs.delete(probe, False)
            batches = self._batches()
        # Without them Spark would number its micro-batches from 0 again, and the old states would make them look done.
        if batches and not (self._fs.exists(self._offsets(batches[-1])) and self.run()):
            raise Refused(
                f"checkpoint {self._checkpoint} is incomplete: model/{batches[-1]}.json exists, but metadata or "
                f"offsets/{batches[-1]} of the same micro-batch does not: {REMEDY}"
            )

    def load(self, batch: int) -> Model | None:
        """Return the model after micro-batch `batch`, None where there is none.

        Raises
        ------
        Refused
            When the state has other features, label, learner or topics than the settings, or is damaged.
        """
        text = self._read(self._file(batch))
        if text is None:
            return None
        size = len(self._identity.fields.features) + 1
        with _parse_errors_as_refused(self._file(batch)):
            state = _converted(dict(json.loads(text)), size)
            self._check(state)
            weights = np.array(state["weights"], np.float64).reshape(size)
            memory, centre = state["memory"], state["centre"]
            if memory:
                factor = np.array(memory["factor"], np.float64).reshape(size + 1, size + 1)
                memory = Statistics(memory["rows"], factor, np.array(memory["shift"], np.float64).reshape(size))
            if centre is not None:
                centre = np.array(centre, np.float64).reshape(size - 1)
            warned = frozenset(map(int, state["warned"]))
            return Model(weights, int(state["rows_seen"]), memory, centre, float(state["level"]), warned)

    def save(self, batch: int, model: Model) -> None:
        """Write the model after micro-batch `batch`: a reader sees all of it or none."""
        memory = model.memory
        state = {
            **self._identity_fields(),
            "batch": batch,
            "rows_seen": model.rows_seen,
            "weights": model.weights.tolist(),
            "centre": None if model.centre is None else model.centre.tolist(),
            "level": model.level,
            "warned": sorted(model.warned),
            "memory": memory
            and {"rows": memory.rows, "factor": memory.factor.tolist(), "shift": memory.shift.tolist()},
        }
        aside = self._path(self._folder, f".{batch}.json.tmp")
        try:
            self._write(aside, json.dumps(state))
            renamed = self._fs.rename(aside, self._file(batch))
            self._fs.delete(self._file(batch - self._keep), False)
        except JAVA_ERRORS as error:
            raise Refused(f"{self._file(batch)} could not be written: {_java_message(error)}") from error
        if not renamed:
            raise Refused(in_use(str(self._checkpoint)))

    def prune(self) -> Model | None:
        """Delete all but the newest `keep` states, and temporary files left by a crash; return the newest model."""
        batches = self._batches()
        newest = self.load(batches[-1]) if batches else None
        stale = [f"{batch}.json" for batch in batches[: -self._keep]]
        for name in stale + [name for name in self._names() if name.endswith(".tmp")]:
            self._fs.delete(self._path(self._folder, name), False)
        return newest

    def _names(self) -> list[str]:
        if not self._fs.exists(self._folder):
            return []
        return [status.getPath().getName() for status in self._fs.listStatus(self._folder)]

    def _batches(self) -> list[int]:
        return sorted(int(match[1]) for name in self._names() if (match := re.fullmatch(r"(\d+)\.json", name)))

    def _offsets(self, batch: int) -> JavaObject:
        return self._path(self._path(self._checkpoint, "offsets"), str(batch))

    def _file(self, batch: int) -> JavaObject:
        return self._path(self._folder, f"{batch}.json")

    def _read(self, path: JavaObject) -> str | None:
        try:
            if not self._fs.exists(path):
                return None
            stream = self._fs.open(path)
            try:
                return bytes(stream.readAllBytes()).decode()
            finally:
                stream.close()
        except JAVA_ERRORS as error:
            raise Refused(f"{path} of the checkpoint cannot be read: {_java_message(error)}: {REMEDY}") from error

    def _write(self, path: JavaObject, text: str) -> None:
        stream = self._fs.create(path, True)
        try:
            stream.write(text.encode())
            stream.hsync()
        finally:
            stream.close()

    def _identity_fields(self) -> dict[str, Any]:
        identity = self._identity
        return {
            "format": FORMAT,
            "features": list(identity.fields.features),
            "label": identity.fields.label,
            "learner": identity.learner,
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
                f"checkpoint {self._checkpoint} holds a model with {key} {_as_text(found)}, but "
                f"{settings[key]} is {_as_text(mine)}: change it back, or start a new run with another "
                "--checkpoint and --index-prefix"
            )


def _converted(state: dict[str, Any], size: int) -> dict[str, Any]:
    """Convert a state of format 1 to the current format: the shift of its statistics is 0, its model has no centre."""
    if state["format"] != 1:
        return state
    memory = state["memory"] and {**state["memory"], "shift": [0.0] * size}
    return {**state, "format": FORMAT, "memory": memory, "centre": None, "level": 0.0, "warned": []}


@contextmanager
def _java_errors_as_config_errors(checkpoint: str) -> Iterator[None]:
    try:
        yield
    except JAVA_ERRORS as error:
        raise ConfigError(
            f"--checkpoint / CHECKPOINT: {checkpoint} cannot be used: {_java_message(error)}; use a folder or URI that "
            "is writable"
        ) from error


@contextmanager
def _parse_errors_as_refused(file: JavaObject) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{file} of the checkpoint is damaged ({error}): {REMEDY}") from error


def _java_message(error: Py4JJavaError | PySparkException) -> str:
    """Return the first line of Java's message: that of the root cause, or its exception's name if it has no message."""
    if isinstance(error, PySparkException):
        return str(error).partition("\n")[0]
    cause = error.java_exception
    while (inner := cause.getCause()) is not None:
        cause = inner
    return str(cause.getMessage() or cause.toString()).partition("\n")[0]


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
