"""The documents: their ids, and their lines in Elasticsearch's bulk format; the same on every replay."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from streaming_regression import schema
from streaming_regression.categories import Texts
from streaming_regression.learners import Floats, Model
from streaming_regression.records import Fields, Invalid

BEGINNING = 200  # bytes that are kept of a value that is too large for Elasticsearch or for a proxy
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
YEAR_10000_MS = 253_402_300_800_000
NOT_SUMMED = frozenset(["topic", "partition", "first_offset", "last_offset"])


@dataclass(frozen=True, slots=True)
class Origin:
    """The fields shared by all documents of one micro-batch. `time` is its start, in UTC, the same on a replay."""

    run: str
    batch: int
    time: datetime
    prefix: str

    @classmethod
    def at(cls, microseconds: int, run: str, batch: int, prefix: str) -> Origin:
        """Return the origin of a micro-batch whose time is `microseconds` after the start of 1970."""
        return cls(run, batch, EPOCH + timedelta(microseconds=microseconds), prefix)

    def index(self, kind: str) -> str:
        """Return the name of the index for documents of `kind`."""
        return schema.index_name(self.prefix, kind, self.time.date())


@dataclass(frozen=True, slots=True)
class PartitionMetrics:
    """The metrics of one partition in one micro-batch: the numbers of a metrics document.

    `rows` counts all records, `labelled` the points with a label, `invalid` the invalid records. The sums are over the
    labelled points.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    rows: int
    labelled: int
    invalid: int
    sum_squared_error: float
    sum_absolute_error: float
    sum_y: float
    sum_y_squared: float

    def joined(self, behind: PartitionMetrics) -> PartitionMetrics:
        """Return the metrics of this range of offsets and the next range, `behind`, together."""
        numbers = asdict(behind)
        sums = {name: value + numbers[name] for name, value in asdict(self).items() if name not in NOT_SUMMED}
        return replace(self, last_offset=behind.last_offset, **sums)


@dataclass(frozen=True, slots=True)
class Course:
    """How a micro-batch went: the numbers of a model document that are not those of the model.

    `seconds` is its duration, `lag` the number of records left in Kafka (None: unknown), `points_fraction` the share of
    the points that was stored, `drift` whether drift was found, by the role of the topic (empty: no drift), and
    `restarted` whether the program was started again before this micro-batch.
    """

    seconds: float
    lag: int | None
    points_fraction: float
    drift: Mapping[str, bool]
    restarted: bool


class Gap(NamedTuple):
    """The offsets first <= offset <= last of one partition whose records were deleted before they were read."""

    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Records:
    """n records of one partition, as stored in Kafka; `times` are milliseconds since 1970, or -1 for no time."""

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]
    values: list[bytes | None]


@dataclass(frozen=True, slots=True)
class Points:
    """The m points among n records: `positions` in the records, `x` (m, d), `y` (m,) (NaN: no label), `pred` (m,).

    `texts` (m, k) are the values of the k fields with categories; None if k is 0. `standard_errors` (m,) are those of
    the predictions (NaN: unknown); None if they are not stored.
    """

    positions: NDArray[np.int64]
    x: Floats
    y: Floats
    pred: Floats
    texts: Texts | None = None
    standard_errors: Floats | None = None

    def without(self, refused: Sequence[int]) -> Points:
        """Return these points, except the points of the records at the positions `refused`."""
        return self.only(~np.isin(self.positions, refused))

    def only(self, kept: NDArray[np.bool_]) -> Points:
        """Return the points for which `kept`, shape (m,), is true."""
        texts = None if self.texts is None else self.texts[kept]
        errors = None if self.standard_errors is None else self.standard_errors[kept]
        return Points(self.positions[kept], self.x[kept], self.y[kept], self.pred[kept], texts, errors)


def points(origin: Origin, fields: Fields, records: Records, found: Points) -> list[str]:
    """Return the bulk lines (action and document) of the points `found` among `records`.

    A point without a label has no `y` and no `squared_error`; one whose standard error is unknown has none. A field
    with categories is stored once, as the text that the record holds, instead of its columns. All numbers are converted
    to text at once and then put into a template, which is several times faster than serialising a dict per point.
    """
    if not found.y.size:
        return []
    head = _json({"run": origin.run, "batch": origin.batch, "topic": records.topic, "partition": records.partition})
    layout = fields.layout
    slots = ",".join(f"{_escape(_json(name))}:%s" for name in layout.fields)
    start = (
        f'{{"index":{{"_id":"{records.topic}-{records.partition}-%s"}}}}\n'
        f'{_escape(head[:-1])},"offset":%s,"@timestamp":"%s","x":{{{slots}}},"pred":%s'
    )
    # %.0s consumes a value and prints nothing
    label = (',"y":%s,"squared_error":%s}\n', "%.0s%.0s}\n")
    error = ("",) if found.standard_errors is None else (',"standard_error":%s', "%.0s")
    forms = [f"{start}{shown}{ending}" for shown in error for ending in label]

    x = found.x[:, layout.number_columns] if layout.categories else found.x
    errors = [] if found.standard_errors is None else [found.standard_errors]
    numbers = np.column_stack([x, found.pred, *errors, found.y, np.square(found.y - found.pred)])
    texts = orjson.dumps(numbers.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode().split(",")
    columns = [texts[column :: numbers.shape[1]] for column in range(numbers.shape[1])]
    if found.texts is not None:
        by_field = dict(zip(layout.categories, map(_json_column, found.texts.T), strict=True))
        by_field |= dict(zip(layout.numbers, columns, strict=False))
        columns = [by_field[field] for field in layout.fields] + columns[len(layout.numbers) :]
    offsets = list(map(str, records.offsets[found.positions].tolist()))
    rows = zip(offsets, offsets, _times(records.times[found.positions], origin), *columns, strict=True)
    missing = np.isnan(found.y).astype(np.int64)
    if found.standard_errors is not None:
        missing += 2 * np.isnan(found.standard_errors)
    if not missing.any():
        return list(map(forms[0].__mod__, rows))
    return [forms[form] % row for form, row in zip(missing.tolist(), rows, strict=True)]


def invalid(origin: Origin, records: Records, faults: Sequence[Invalid], *, whole: bool = True) -> list[str]:
    """Return the bulk lines of the records in `faults`, with their raw values as text or base64 (see `_kept`).

    Unless `whole`, only the beginning of a long value is kept, and the reason says so.
    """
    times = _times(records.times[[fault.position for fault in faults]], origin)
    lines = []
    for fault, time in zip(faults, times, strict=True):
        offset, value = int(records.offsets[fault.position]), records.values[fault.position]
        document: dict[str, object] = {
            "run": origin.run,
            "@timestamp": time,
            "topic": records.topic,
            "partition": records.partition,
            "offset": offset,
            "field": fault.field,
            "reason": fault.reason,
        }
        if not whole and value is not None and len(value) > BEGINNING:
            document["reason"] = (
                f"{fault.reason}; only the first {BEGINNING} of the value's {len(value)} bytes are kept"
            )
            value = value[:BEGINNING]
        document |= _kept(value)
        lines.append(_lines({"_id": f"{records.topic}-{records.partition}-{offset}"}, document))
    return lines


def _kept(value: bytes | None) -> dict[str, object]:
    """Return a record's value as text, or as base64 if it is not UTF-8 or would be far longer as a JSON string.

    A value that begins with a schema id (see `formats`) is text only if JSON follows; the id is kept as a number too.
    """
    if value is None:
        return {"value": None}
    framed = len(value) > 4 and value[0] == 0
    kept: dict[str, object] = {"schema_id": int.from_bytes(value[1:5], "big")} if framed else {}
    if not framed or value[5:6] == b"{":
        with suppress(UnicodeDecodeError):
            text = value.decode()
            if len(_json(text)) <= 2 * len(value) + 100:  # JSON writes a control character as six bytes
                return {**kept, "value": text}
    return {**kept, "value_base64": b64encode(value).decode()}


def gaps(origin: Origin, found: Iterable[Gap]) -> list[str]:
    """Return the bulk lines of one document per gap, for the index of invalid records."""
    return [
        _lines(
            {"_index": origin.index("invalid"), "_id": f"{gap.topic}-{gap.partition}-{gap.first}-gap"},
            {
                "run": origin.run,
                "@timestamp": _iso(origin.time),
                "topic": gap.topic,
                "partition": gap.partition,
                "offset": gap.first,
                "last_offset": gap.last,
                "lost": gap.last - gap.first + 1,
                "reason": "lost: deleted from Kafka before it was read",
            },
        )
        for gap in found
    ]


def metrics(origin: Origin, partitions: Iterable[PartitionMetrics]) -> list[str]:
    """Return the bulk lines of one metrics document per partition."""
    return [
        _lines(
            {"_index": origin.index("metrics"), "_id": f"{origin.batch}-{numbers.topic}-{numbers.partition}"},
            {"run": origin.run, "@timestamp": _iso(origin.time), "batch": origin.batch, **asdict(numbers)},
        )
        for numbers in partitions
    ]


def model(origin: Origin, fields: Fields, learner: str, after: Model, course: Course) -> list[str]:
    """Return the bulk lines of the document of the model `after` the micro-batch."""
    intercept, *weights = after.weights.tolist()
    document: dict[str, Any] = {
        "run": origin.run,
        "@timestamp": _iso(origin.time),
        "batch": origin.batch,
        "learner": learner,
        "intercept": intercept,
        "weights": dict(zip(fields.layout.columns, weights, strict=True)),
        "rows_seen": after.rows_seen,
        "seconds": course.seconds,
        "lag": course.lag,
        "points_fraction": course.points_fraction,
    }
    if course.drift:
        document["drift"] = course.drift
    if course.restarted:
        document["restarted"] = True
    return [_lines({"_index": origin.index("models"), "_id": str(origin.batch)}, document)]


def _lines(action: dict[str, str], document: dict[str, Any]) -> str:
    return f"{_json({'index': action})}\n{_json(document)}\n"


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _times(times: NDArray[np.int64], origin: Origin) -> list[str]:
    """Return records' times as ISO 8601; for a missing or impossible time, return that of the micro-batch.

    A producer that writes micro- or nanoseconds, where Kafka expects milliseconds, gives years beyond 9999.
    """
    possible = (times >= 0) & (times < YEAR_10000_MS)
    if not possible.all():
        times = np.where(possible, times, int(origin.time.timestamp() * 1000))
    texts: list[str] = np.datetime_as_string(times.astype("datetime64[ms]"), unit="ms", timezone="UTC").tolist()
    return texts


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _json_column(texts: Texts) -> list[str]:
    known = {text: _json(text) for text in set(texts.tolist())}
    return [known[text] for text in texts.tolist()]


def _escape(text: str) -> str:
    return text.replace("%", "%%")
