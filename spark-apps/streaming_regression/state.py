"""The model's state after each micro-batch, in the checkpoint, written atomically through Hadoop's FileSystem."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from py4j.java_gateway import JavaObject, JVMView

from streaming_regression.decode import Fields
from streaming_regression.errors import Refused
from streaming_regression.learners import Model, Statistics

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint belongs to: with any of it changed, its model would mean something else."""

    fields: Fields
    learner: str
    topics: tuple[str, str]


class StateStore:
    """Model states, one JSON file per micro-batch: `<checkpoint>/model/<batch>.json`.

    Any file system that Hadoop knows will do (a PVC, HDFS, S3). On a local one the state survives a power failure:
    the file is synced before it gets its name.
    """

    def __init__(self, jvm: JVMView, hadoop_conf: JavaObject, checkpoint: str, identity: Identity, keep: int) -> None:
        self._path = jvm.org.apache.hadoop.fs.Path
        self._checkpoint = self._path(checkpoint)
        self._folder = self._path(self._checkpoint, "model")
        # Its own instance, without checksum files: a file and its checksum cannot be renamed in one step.
        self._fs = jvm.org.apache.hadoop.fs.FileSystem.newInstance(self._folder.toUri(), hadoop_conf)
        self._fs.setWriteChecksum(False)
        self._identity = identity
        self._keep = keep
        self._run: str | None = None

    def run(self) -> str | None:
        """Return the query's id, which Spark writes once per checkpoint before the first micro-batch; None if new."""
        if self._run is None:
            text = self._read(self._path(self._checkpoint, "metadata"))
            self._run = text and str(json.loads(text)["id"])
        return self._run

    def end_offsets(self, batch: int) -> dict[str, dict[str, int]]:
        """Return topic → partition → offset behind the last record of micro-batch `batch`, from Spark's offset log."""
        text = self._read(self._path(self._path(self._checkpoint, "offsets"), str(batch)))
        offsets: dict[str, dict[str, int]] = json.loads(text.splitlines()[-1]) if text else {}
        return offsets

    def load(self, batch: int) -> Model | None:
        """Return the model after micro-batch `batch`, None where there is none.

        Raises
        ------
        Refused
            When the state is of other features, label, learner or topics than this program is set to.
        """
        text = self._read(self._file(batch))
        if text is None:
            return None
        state = json.loads(text)
        self._check(state)
        memory = state["memory"]
        return Model(
            np.array(state["weights"], np.float64),
            state["rows_seen"],
            memory and Statistics(memory["rows"], np.array(memory["factor"], np.float64)),
        )

    def save(self, batch: int, model: Model) -> None:
        """Write the model after micro-batch `batch`: a reader sees all of it or none."""
        state = {
            **self._described(),
            "batch": batch,
            "rows_seen": model.rows_seen,
            "weights": model.weights.tolist(),
            "memory": model.memory and {"rows": model.memory.rows, "factor": model.memory.factor.tolist()},
        }
        aside = self._path(self._folder, f".{batch}.json.tmp")
        stream = self._fs.create(aside, True)
        stream.write(json.dumps(state).encode())
        stream.hsync()
        stream.close()
        if not self._fs.rename(aside, self._file(batch)):
            raise Refused(f"{self._file(batch)} could not be written: another driver may use this --checkpoint")
        self._fs.delete(self._file(batch - self._keep), False)

    def prune(self) -> Model | None:
        """Delete all but the newest `keep` states and what a crash left behind; return the newest."""
        names = (
            [status.getPath().getName() for status in self._fs.listStatus(self._folder)]
            if self._fs.exists(self._folder)
            else []
        )
        batches = sorted(int(match[1]) for name in names if (match := re.fullmatch(r"(\d+)\.json", name)))
        newest = self.load(batches[-1]) if batches else None
        stale = [f"{batch}.json" for batch in batches[: -self._keep]]
        for name in stale + [name for name in names if name.endswith(".tmp")]:
            self._fs.delete(self._path(self._folder, name), False)
        return newest

    def _file(self, batch: int) -> JavaObject:
        return self._path(self._folder, f"{batch}.json")

    def _read(self, path: JavaObject) -> str | None:
        if not self._fs.exists(path):
            return None
        stream = self._fs.open(path)
        try:
            return bytes(stream.readAllBytes()).decode()
        finally:
            stream.close()

    def _described(self) -> dict[str, Any]:
        identity = self._identity
        return {
            "format": FORMAT,
            "features": list(identity.fields.features),
            "label": identity.fields.label,
            "learner": identity.learner,
            "topics": list(identity.topics),
        }

    def _check(self, state: dict[str, Any]) -> None:
        settings = {
            "format": "(written by another version of this program)",
            "features": "--features",
            "label": "--label",
            "learner": "--learner",
            "topics": "--kafka-train-topic and --kafka-test-topic",
        }
        for key, mine in self._described().items():
            if state.get(key) != mine:
                raise Refused(
                    f"checkpoint {self._checkpoint} holds a model with {key} {_shown(state.get(key))}, but "
                    f"{settings[key]} is {_shown(mine)}: set it back, or start anew with another --checkpoint "
                    "and --index-prefix"
                )


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
