"""One word everywhere: a value `kafka.trainTopic` is the variable KAFKA_TRAIN_TOPIC of the programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

import dashboards.settings
import streaming_regression.settings
from tests.charts.rendering import CHART, Object, find, render, spark_pod

pytestmark = pytest.mark.helm

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
TEXT = (CHART / "values.yaml").read_text()
BY_SECRET = {
    "KAFKA_PASSWORD_FILE",
    "KAFKA_CA_FILE",
    "ELASTICSEARCH_USER",
    "ELASTICSEARCH_PASSWORD_FILE",
    "ELASTICSEARCH_CA_FILE",
    "KIBANA_USER",
    "KIBANA_PASSWORD_FILE",
    "KIBANA_CA_FILE",
}
"""Given by the chart from Secrets, whose names are values."""
NOT_OFFERED = {
    "AVAILABLE_NOW",  # a stream that ends would be started again for ever
    "CHECKPOINT",  # the folder follows from indexPrefix
    "ELASTICSEARCH_API_KEY_FILE",
    "KIBANA_API_KEY_FILE",
    "DASHBOARDS_FILE",
    "DRY_RUN",
    "REQUEST_TIMEOUT_S",
}
OWN_VALUE = {"load": {"SERVER_TIMEOUT_S"}}  # dashboards.timeoutSeconds


def variables(group: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the variable of each value, by the rule, and its default."""
    for name, value in group.items():
        word = prefix + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()
        if isinstance(value, dict):
            yield from variables(value, f"{word}_")
        else:
            yield word, value


def environment(objects: list[Object], program: str) -> dict[str, Any]:
    """Return the variables of a program's container."""
    if program == "app":
        (container,) = spark_pod(find(objects, "SparkApplication")["spec"], "driver")["spec"]["containers"]
    else:
        (container,) = find(objects, "Job")["spec"]["template"]["spec"]["containers"]
    names = [one["name"] for one in container["env"]]
    assert len({*names}) == len(names), "a variable stands there twice"
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


SETTINGS: dict[str, type[BaseSettings]] = {
    "app": streaming_regression.settings.Settings,
    "load": dashboards.settings.Load,
}


@pytest.mark.parametrize("program", SETTINGS)
def test_every_setting_of_a_program_is_a_value_of_the_same_words(program: str) -> None:
    fields = {name.upper() for name in SETTINGS[program].model_fields}
    values = {name for name, _ in variables(VALUES)}
    assert fields - values - BY_SECRET - NOT_OFFERED - OWN_VALUE.get(program, set()) == set()


@pytest.mark.parametrize("program", SETTINGS)
def test_the_programs_know_every_variable_that_they_are_given(program: str, objects: list[Object]) -> None:
    if program == "load" and not [one for one in objects if one["kind"] == "Job"]:
        return
    assert environment(objects, program).keys() <= {name.upper() for name in SETTINGS[program].model_fields}


def test_a_value_that_is_a_setting_says_so_and_has_its_default() -> None:
    fields = streaming_regression.settings.Settings.model_fields
    for variable, default in variables(VALUES):
        field = fields.get(variable.lower())
        if field is None or variable in BY_SECRET:
            continue
        assert f"({variable})" in TEXT, variable
        expected = "SASL_SSL" if variable == "KAFKA_SECURITY_PROTOCOL" else field.default
        if variable in {"KAFKA_BOOTSTRAP", "ELASTICSEARCH_URL"}:  # the release's own
            assert default == ""
        elif variable == "FEATURES":
            assert ",".join(map(str, default)) == expected  # type: ignore[call-overload]
        elif not default:
            assert not expected, variable
        else:
            assert default == expected, variable


def test_values_reach_the_programs_as_they_are_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    objects = render(CHART / "ci" / "own-model-values.yaml")
    given = environment(objects, "app")
    for name, value in given.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "user")
        if name.endswith("_FILE"):
            file = tmp_path / name
            file.write_text("secret")
            monkeypatch.setenv(name, str(file))
    settings = streaming_regression.settings.load([])
    assert settings.fields.features == ("temperature", "load.mean")
    assert settings.initial == (2.0, 0.5, -1.5)
    assert (settings.learner, settings.rls_half_life, settings.rls_ridge) == ("sgd", 1e6, 0.1)
    assert (settings.sgd_iterations, settings.sgd_convergence_tolerance, settings.sgd_intercept) == (20, 0.0, True)
    assert (settings.max_offsets_per_trigger, settings.trigger_interval_s) == (2_000_000, 0.5)
    assert (settings.index_prefix, settings.checkpoint, settings.replace_run) == ("wear", "/checkpoint/wear", True)
    assert (settings.kafka_train_topic, settings.kafka_test_topic) == ("machines_train", "machines.Test")
    assert (settings.retention_days, settings.log_format) == (0, "json")
    given = environment(objects, "load")
    assert (given["KIBANA_SPACE"], given["FEATURES"], given["INDEX_PREFIX"]) == (
        "machines",
        "temperature,load.mean",
        "wear",
    )


def test_files_that_variables_name_are_mounted(objects: list[Object]) -> None:
    spec = find(objects, "SparkApplication")["spec"]
    folders = {mount["mountPath"] for mount in spec["driver"]["volumeMounts"]}
    assert folders - {"/checkpoint"} == {mount["mountPath"] for mount in spec["executor"]["volumeMounts"]}
    for name, value in environment(objects, "app").items():
        if name.endswith("_FILE"):
            assert value.rpartition("/")[0] in folders, name
    for job in (one for one in objects if one["kind"] == "Job"):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        folders = {mount["mountPath"] for mount in container["volumeMounts"]}
        for name, value in environment(objects, "load").items():
            if name.endswith("_FILE"):
                assert value.rpartition("/")[0] in folders, name


def test_java_logs_in_the_form_of_the_app() -> None:
    spec = find(render(CHART / "ci" / "own-model-values.yaml"), "SparkApplication")["spec"]
    for role in ("driver", "executor"):
        assert spec[role]["javaOptions"].endswith("/log4j2.properties -Dform=json")
