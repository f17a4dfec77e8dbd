"""The health of the model: totals of each topic since the run began, and the test for drift; kept in the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from streaming_regression.documents import PartitionMetrics
from streaming_regression.drift import Baseline, DriftDetector, Labels, Scores

log = logging.getLogger(__name__)


def by_topic(partitions: Iterable[PartitionMetrics]) -> dict[str, PartitionMetrics]:
    """Return the metrics of each topic: the sums over its partitions. Ignore the partition and the offsets in them."""
    topics: dict[str, PartitionMetrics] = {}
    for numbers in partitions:
        before = topics.get(numbers.topic)
        topics[numbers.topic] = before.joined(numbers) if before else numbers
    return topics


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all records of a topic since the run began, or since the first version that counted them.

    `rows` counts all records, `labelled` the points with a label, `invalid` the invalid records, and `drifts` the
    detections. The sums are over the labelled points.
    """

    rows: int = 0
    labelled: int = 0
    invalid: int = 0
    sum_squared_error: float = 0.0
    sum_absolute_error: float = 0.0
    drifts: int = 0

    def plus(self, numbers: PartitionMetrics) -> Totals:
        """Return the totals with those of the same topic in one micro-batch."""
        return replace(
            self,
            rows=self.rows + numbers.rows,
            labelled=self.labelled + numbers.labelled,
            invalid=self.invalid + numbers.invalid,
            sum_squared_error=self.sum_squared_error + numbers.sum_squared_error,
            sum_absolute_error=self.sum_absolute_error + numbers.sum_absolute_error,
        )


@dataclass(frozen=True, slots=True)
class Health:
    """The totals and the baselines of the errors, by topic. A topic without a label has no baseline."""

    totals: Mapping[str, Totals] = field(default_factory=dict)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)

    @property
    def scales(self) -> dict[str, float]:
        """The size of a typical error, with which executors score errors, by topic."""
        return {topic: baseline.scale for topic, baseline in self.baselines.items()}

    def after(
        self, batch: int, partitions: Iterable[PartitionMetrics], scores: Mapping[str, Scores], growth: float
    ) -> tuple[Health, set[str]]:
        """Return the health after a micro-batch and the topics with drift; log a WARNING for each of them.

        Parameters
        ----------
        batch
            The number of the micro-batch, for the message.
        partitions
            The numbers of the micro-batch.
        scores
            The scores of the errors, by topic, with the scales of this health.
        growth
            The sensitivity, see `DriftDetector`; 0 for no test.
        """
        totals, baselines, drifted = dict(self.totals), dict(self.baselines) if growth else {}, set()
        for topic, numbers in by_topic(partitions).items():
            totals[topic] = totals.get(topic, Totals()).plus(numbers)
            if not growth:
                continue
            before = baselines.get(topic)
            labels = Labels(numbers.labelled, numbers.sum_absolute_error, numbers.sum_y, numbers.sum_y_squared)
            baseline, drift = DriftDetector(growth).after(before, scores.get(topic, Scores()), labels)
            if baseline:
                baselines[topic] = baseline
            if drift and before and baseline:
                drifted.add(topic)
                totals[topic] = replace(totals[topic], drifts=totals[topic].drifts + 1)
                log.warning(
                    "batch %d: drift in topic %s: a typical error of its predictions was about %.4g before and is "
                    "about %.4g now; check whether the data have changed; see docs/health.md",
                    *(batch, topic, before.typical, baseline.scale),
                )
        return Health(totals, baselines), drifted

    def to_json(self) -> dict[str, Any]:
        """Return the health in a form that JSON can hold."""
        return {
            "totals": {topic: asdict(totals) for topic, totals in self.totals.items()},
            "baselines": {topic: asdict(baseline) for topic, baseline in self.baselines.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Health:
        """Return the health that `to_json` converted; ValueError, KeyError or TypeError for damaged content."""
        return cls(
            {topic: Totals(**numbers) for topic, numbers in content["totals"].items()},
            {
                topic: Baseline(**{**numbers, **{key: Scores(**numbers[key]) for key in ("seen", "block", "last")}})
                for topic, numbers in content["baselines"].items()
            },
        )
