"""The objects of the Prometheus operator find the driver's metrics, and the alerts use metrics that exist."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import promql_parser
import pytest

from streaming_regression.documents import Course, PartitionMetrics
from streaming_regression.health import Health
from streaming_regression.learners import Model
from streaming_regression.prometheus import Metrics
from tests.charts.rendering import CHART, NAMESPACE, RELEASE, Object, find, refusal, render

pytestmark = pytest.mark.helm

MONITORED = CHART / "ci" / "monitoring-values.yaml"


def rules() -> list[Object]:
    (group,) = find(render(MONITORED), "PrometheusRule")["spec"]["groups"]
    found: list[Object] = group["rules"]
    return found


def exported() -> dict[str, set[str]]:
    """The labels of each metric that the driver serves, by the metric's name."""
    metrics = Metrics({"train": "a", "test": "b"}, "rls", ["x"])
    partition = PartitionMetrics("a", 0, 0, 1, 2, 2, 0, 1.0, 1.0, 1.0, 1.0)
    metrics.note(Model(np.zeros(2)), Health(), [partition], Course(1.0, 1, 1.0, {}, restarted=False))
    return {sample.name: {*sample.labels} for family in metrics.collect() for sample in family.samples}


def selectors(node: Any) -> list[Any]:
    """The selectors of series in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    below = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector", "param")]
    below += list(getattr(node, "args", []) or [])
    return [selector for part in below if part is not None for selector in selectors(part)]


def test_without_them_nothing_of_the_operator_is_needed() -> None:
    assert not [manifest for manifest in render() if manifest["apiVersion"].startswith("monitoring")]


def test_every_expression_parses_and_selects_metrics_that_the_driver_serves() -> None:
    """promql-parser is a port of Prometheus' own parser. It checks types, too: a rate needs a range of series."""
    names, used = exported(), set()
    for rule in rules():
        parsed = selectors(promql_parser.parse(rule["expr"]))
        assert parsed, rule["alert"]
        for selector in parsed:
            used.add(selector.name)
            assert selector.name in names, rule["alert"]
            matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert matchers == {"namespace": NAMESPACE, "job": RELEASE}, rule["alert"]
    assert len(used) == 8
    with pytest.raises(ValueError, match="rate"):
        promql_parser.parse("rate(streaming_regression_records_total) > 0")


def test_the_messages_name_labels_that_the_metrics_have() -> None:
    names = exported()
    for rule in rules():
        (selector, *_) = selectors(promql_parser.parse(rule["expr"]))
        text = " ".join(rule["annotations"].values())
        assert {*re.findall(r"\$labels\.(\w+)", text)} <= names[selector.name], rule["alert"]
        assert text.count("{{") == text.count("}}")


def test_thresholds_come_from_the_values_and_an_alert_on_the_mse_needs_one() -> None:
    alerts = {rule["alert"]: rule["expr"] for rule in rules()}
    assert alerts["StreamingRegressionMeanSquaredError"].endswith("> 400.5")
    assert alerts["StreamingRegressionInvalidRecords"].endswith("> 0.05")
    assert alerts["StreamingRegressionLagGrows"].endswith("> 200000")  # a stream that keeps up has a lag below it
    enabled = {"monitoring.prometheusRule.enabled": True}
    assert refusal(enabled) == ""
    assert "metricsPort, to 9404" in refusal({**enabled, "metricsPort": 0})
    assert "monitoring.podMonitor.enabled needs" in refusal({"monitoring.podMonitor.enabled": True, "metricsPort": 0})
    assert "metricsPort 7078 is a port of Spark" in refusal({"metricsPort": 7078})


def test_prometheus_finds_the_drivers_ports_by_name() -> None:
    objects = render(MONITORED)
    monitor, driver = find(objects, "PodMonitor")["spec"], find(objects, "SparkApplication")["spec"]["driver"]
    wanted = monitor["selector"]["matchLabels"]
    assert wanted.items() <= {**driver["labels"], "spark-role": "driver"}.items()
    assert driver["labels"][monitor["jobLabel"]] == RELEASE
    assert driver["ports"] == [{"name": "metrics", "containerPort": 9404, "protocol": "TCP"}]
    assert {(end["port"], end["path"]) for end in monitor["podMetricsEndpoints"]} == {
        ("metrics", "/metrics"),
        ("spark-ui", "/metrics/prometheus"),  # Spark itself names this port of its driver
        ("spark-ui", "/metrics/executors/prometheus"),
    }


def test_without_a_port_the_driver_serves_no_metrics_of_its_own() -> None:
    assert refusal({"metricsPort": 0}) == ""
