"""Valid values render, invalid ones are refused with a helpful message, and generated files are current."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.rendering import CHART, OPERATORS, ROOT, SHAPES, find, helm, refusal, render


@pytest.mark.parametrize("chart", ["streaming-ml", "operators"])
def test_schema_and_readme_are_not_stale(chart: str) -> None:
    generator = runpy.run_path(str(ROOT / "charts" / "generate.py"))
    folder = ROOT / "charts" / chart
    assert (folder / "values.schema.json").read_text() == generator["schema"](chart), "run `make generate`"
    assert (folder / "README.md").read_text() == generator["readme"](chart), "run `make generate`"


def test_values_of_the_learners_are_not_stale() -> None:
    generator = runpy.run_path(str(ROOT / "charts" / "generate.py"))
    template = CHART / "templates" / "app" / "_learners.tpl"
    assert (CHART / "values.yaml").read_text() == generator["learner_values"](), "run `make generate`"
    assert template.read_text() == generator["learner_template"](), "run `make generate`"


@pytest.mark.parametrize("chart", ["streaming-ml", "operators"])
def test_every_value_is_described_and_every_group_is_closed(chart: str) -> None:
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())

    def check(path: str, part: dict[str, Any], dependency: bool) -> None:
        open_ = dependency or path.endswith(".global")  # parent charts have other values there
        assert open_ or "properties" not in part or part.get("additionalProperties") is False, path
        assert "properties" in part or part.get("description"), path
        if part.get("description") and not path.endswith(".global"):  # one value, even if its schema names fields
            return
        for name, schema in part.get("properties", {}).items():
            check(f"{path}.{name}", schema, dependency or name.endswith("-operator"))

    check(chart, schema, dependency=False)


def test_chart_images_and_producer_are_of_the_projects_version() -> None:
    found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == found[1]
    assert f"image: streaming-ml-producer:{found[1]}\n" in (ROOT / "producer" / "job.yaml").read_text()
    assert yaml.safe_load((OPERATORS / "Chart.yaml").read_text())["version"] == found[1]


def test_the_sparkapplication_names_the_version_of_spark_in_the_image() -> None:
    generator = runpy.run_path(str(ROOT / "charts" / "generate.py"))
    template = (CHART / "templates" / "app" / "sparkapplication.yaml").read_text()
    assert f"\n  sparkVersion: {generator['spark_version']()}\n" in template, "run `make generate`"


def unknown(values: dict[str, Any], defaults: dict[str, Any], above: str = "") -> list[str]:
    """The values that the chart does not have; an empty default is a map with free keys."""
    found = []
    for name, value in values.items():
        if name not in defaults:
            found.append(above + name)
        elif isinstance(value, dict) and defaults[name]:
            found += unknown(value, defaults[name], f"{above}{name}.")
    return found


def test_each_shape_sets_only_values_that_there_are() -> None:
    """The schema checks this too, except in maps with free keys."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert unknown({"kafka": {"trainTopics": "x"}, "features": []}, defaults) == ["kafka.trainTopics"]
    assert len(SHAPES) > 1
    for shape in SHAPES:
        assert unknown(yaml.safe_load(shape.read_text()), defaults) == [], shape


@pytest.mark.helm
def test_the_chart_is_linted_in_each_shape(shape: Path) -> None:
    done = helm("lint", "--strict", CHART, "-f", shape)
    assert done.returncode == 0, done.stdout + done.stderr


EXISTING_SEARCH = {"elasticsearch.enabled": False, "elasticsearch.url": "https://search:9200"}
EXISTING_KAFKA = {"kafka.enabled": False, "kafka.bootstrap": "kafka:9093"}


@pytest.mark.helm
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        # a typo, a wrong type, a word that is not allowed
        ({"kafak": {}}, ["'kafak' not allowed"]),
        ({"kafka.enabld": True}, ["/kafka", "'enabld' not allowed"]),
        ({"app.executor.instance": 2}, ["/app/executor", "'instance' not allowed"]),
        ({"kafka.partitions": "3"}, ["/kafka/partitions", "want integer"]),
        ({"features": "a,b"}, ["/features", "want array"]),
        ({"features": []}, ["/features"]),
        ({"features": ["a", "a"]}, ["/features"]),
        ({"features": ["a,b"]}, ['features: "a,b" is not a valid field name']),
        ({"learner": "svm"}, ["/learner", "'rls', 'sgd'"]),
        ({"indexPrefix": "Spark"}, ["/indexPrefix"]),
        ({"kafka.storage.size": "10 GB"}, ["/kafka/storage/size"]),
        ({"kafka.heap": "512Mi"}, ["/kafka/heap"]),
        ({"kafka.nodes": 2}, ["/kafka/nodes"]),
        ({"kafka.securityProtocol": "TLS"}, ["/kafka/securityProtocol"]),
        ({"elasticsearch.url": "https://elastic:secret@search:9200"}, ["elasticsearch.url contains an @"]),
        ({"valueFormat": "protobuf"}, ["/valueFormat"]),
        ({"valueFormat": "avro"}, ["valueFormat avro needs schemaRegistry.url"]),
        ({"schemaRegistry.url": "https://r:1"}, ["schemaRegistry.url needs valueFormat json-schema-registry or avro"]),
        (
            {"valueFormat": "avro", "schemaRegistry.url": "http://r:1", "schemaRegistry.user": "u"}
            | {"schemaRegistry.tokenSecret": "t", "schemaRegistry.caSecret": "c"},
            [
                "schemaRegistry.user and schemaRegistry.passwordSecret must be given together",
                "schemaRegistry.tokenSecret and schemaRegistry.user cannot be given together",
                "schemaRegistry.caSecret needs https",
            ],
        ),
        ({"image.spark.tag": "latest"}, ["/image/spark/tag"]),
        ({"rls.halfLife": 0}, ["/rls/halfLife"]),
        ({"features": ["a\tb"]}, ['features: "a\\tb" is not a valid field name']),
        ({"features": ["a..b"]}, ['features: "a..b" is not a valid field name']),
        ({"label": ".a"}, ['label: ".a" is not a valid field name']),
        ({"label": " "}, ['label: "" is not a valid field name']),
        ({"features": ["a", "a "]}, ["features lists a name twice"]),
        ({"image.spark.tag": "a b"}, ["/image/spark/tag"]),
        ({"image.dashboards.repository": "dashboards:1"}, ["/image/dashboards/repository"]),
        ({"kafka.bootstrap": "a:999999"}, ['kafka.bootstrap: "a:999999" is not host:port']),
        (
            {"elasticsearch.url": "https://search:"},
            ['elasticsearch.url: "https://search:" is not http(s)://host:port'],
        ),  # as the app
        (
            {"kibana.url": "https://kibana:"},
            ['kibana.url: "https://kibana:" is not http(s)://host:port'],
        ),  # as the loader
        ({"app.driver.memory": "10m"}, ["/app/driver/memory"]),
        ({"app.executor.memory": "499m"}, ["/app/executor/memory"]),
        ({"app.executor.coreRequest": "1Gi"}, ["/app/executor/coreRequest"]),
        ({"networkPolicies.apiServerCidr": "10.0.0.1"}, ["/networkPolicies/apiServerCidr"]),
        ({"networkPolicies.apiServerCidr": "10.0.0.256/32"}, ["/networkPolicies/apiServerCidr"]),
        ({"networkPolicies.apiServerCidr": "10.0.0.0/33"}, ["/networkPolicies/apiServerCidr"]),
        ({"networkPolicies.kafkaFrom": [{"podSelektor": {}}]}, ["invalid propertyName 'podSelektor'"]),
        ({"networkPolicies.kafkaFrom": [{"podSelector": {"matchLabel": {}}}]}, ["invalid propertyName 'matchLabel'"]),
        ({"networkPolicies.metricsFrom": [{}]}, ["/networkPolicies/metricsFrom/0"]),
        # null removes a value
        ({"kafka": None}, ["missing property 'kafka'"]),
        ({"features": None}, ["missing property 'features'"]),
        ({"kafka.partitions": None}, ["/kafka", "missing property 'partitions'"]),
        ({"app.driver.memory": None}, ["/app/driver", "missing property 'memory'"]),
        # values that contradict each other
        ({"label": "distance"}, ["label distance is also one of the features"]),
        ({"initial.weights": [1, 2]}, ["initial.weights has 2 numbers for 3 features"]),
        ({"kafka.testTopic": "train"}, ["kafka.trainTopic and kafka.testTopic are the same"]),
        ({"kafka.trainTopic": "a_b", "kafka.testTopic": "A-b"}, ["kafka.trainTopic and kafka.testTopic are the same"]),
        ({"kafka.trainTopic": "train_"}, ["kafka.trainTopic train_ cannot be the name of a KafkaTopic"]),
        ({"kafka.testTopic": "a..b"}, ["kafka.testTopic a..b cannot be the name of a KafkaTopic"]),
        ({"app.sparkConf": {"spark.driver.port": "1"}}, ["app.sparkConf has spark.driver.port, which the chart sets"]),
        ({"app.dynamicAllocation.minExecutors": 9}, ["minExecutors is greater than maxExecutors"]),
        ({"kafka.replicationFactor": 3}, ["kafka.replicationFactor 3 is greater than kafka.nodes 1"]),
        ({"kafka.minInsyncReplicas": 2}, ["kafka.minInsyncReplicas 2 is greater than kafka.replicationFactor 1"]),
        ({"kafka.bootstrap": "kafka:9092"}, ["kafka.bootstrap is for an existing Kafka: set kafka.enabled to false"]),
        ({"kafka.enabled": False}, ["kafka.bootstrap must name the brokers"]),
        (EXISTING_KAFKA, ["SASL_SSL needs kafka.user and kafka.passwordSecret"]),
        (EXISTING_KAFKA | {"kafka.securityProtocol": "SSL", "kafka.user": "me"}, ["need kafka.securityProtocol SASL"]),
        ({"kafka.authentication": "plain"}, ["/kafka/authentication"]),
        (EXISTING_KAFKA | {"kafka.authentication": "tls"}, ["kafka.authentication is for this chart's Kafka"]),
        ({"kafka.certificateSecret": "one"}, ["kafka.certificateSecret is for an existing Kafka"]),
        ({"kafka.oauth.clientId": "me"}, ["kafka.oauth.clientId is for an existing Kafka"]),
        (
            EXISTING_KAFKA | {"kafka.securityProtocol": "PLAINTEXT", "kafka.certificateSecret": "one"},
            ["kafka.certificateSecret needs kafka.securityProtocol SSL or SASL_SSL, not PLAINTEXT"],
        ),
        (
            EXISTING_KAFKA | {"kafka.securityProtocol": "PLAINTEXT", "kafka.caSecret": "one"},
            ["kafka.caSecret needs kafka.securityProtocol SSL or SASL_SSL, not PLAINTEXT"],
        ),
        (
            EXISTING_KAFKA | {"kafka.saslMechanism": "OAUTHBEARER"},
            ["OAUTHBEARER needs kafka.oauth.tokenUrl, kafka.oauth.clientId and kafka.oauth.clientSecret"],
        ),
        (
            EXISTING_KAFKA | {"kafka.saslMechanism": "OAUTHBEARER", "kafka.user": "me"},
            ["are not used by kafka.saslMechanism OAUTHBEARER"],
        ),
        (EXISTING_KAFKA | {"kafka.oauth.scope": "a"}, ["kafka.oauth.scope needs kafka.saslMechanism OAUTHBEARER"]),
        (
            EXISTING_KAFKA | {"kafka.oauth.tokenUrl": "http://a/b", "kafka.oauth.caSecret": "ca"},
            ["kafka.oauth.caSecret needs https"],
        ),
        ({"elasticsearch.authentication": "token"}, ["elasticsearch.authentication is for an existing Elastic"]),
        ({"elasticsearch.certificateSecret": "one"}, ["elasticsearch.certificateSecret is for an existing Elastic"]),
        (
            EXISTING_SEARCH | {"elasticsearch.url": "http://search", "elasticsearch.certificateSecret": "one"},
            ["elasticsearch.certificateSecret needs https"],
        ),
        ({"elasticsearch.url": "https://search:9200"}, ["elasticsearch.url is for an existing Elasticsearch"]),
        ({"elasticsearch.enabled": False}, ["elasticsearch.url must name the nodes", "elasticsearch.appSecret"]),
        (EXISTING_SEARCH, ["elasticsearch.dashboardsSecret must name", "kibana.elasticsearchSecret must name"]),
        (
            EXISTING_SEARCH | {"elasticsearch.url": "http://search:9200", "elasticsearch.caSecret": "ca"},
            ["elasticsearch.caSecret needs https"],
        ),
        (
            EXISTING_SEARCH | {"elasticsearch.url": "https://a:9200,http://b:9200", "elasticsearch.caSecret": "ca"},
            ["elasticsearch.caSecret needs https"],
        ),
        (
            EXISTING_SEARCH | {"elasticsearch.url": "https://a:65536"},
            ['elasticsearch.url: "https://a:65536" is not http(s)://host:port'],
        ),
        (
            {"elasticsearch.version": "8.2.3"},
            ["elasticsearch.version 8.2.3: the app works with Elasticsearch 8 (from 8.3)"],
        ),
        ({"elasticsearch.version": "10.0.0"}, ["elasticsearch.version 10.0.0: the app works with"]),
        ({"kibana.version": "8.11.4"}, ["kibana.version 8.11.4: the dashboards work with Kibana 8 (from 8.12) and 9"]),
        ({"dashboards.timeoutSeconds": 59}, ["/dashboards/timeoutSeconds"]),
        ({"kibana.version": "9.10.0"}, ["kibana.version 9.10.0 is newer than elasticsearch.version 9.5.3"]),
        ({"kibana.elasticsearchSecret": "search"}, ["kibana.elasticsearchSecret is for an existing Elasticsearch"]),
        ({"kibana.url": "https://kibana:5601"}, ["kibana.url is for an existing Kibana: set kibana.enabled to false"]),
        ({"kibana.enabled": False}, ["dashboards.enabled needs a Kibana"]),
    ],
)
def test_bad_values_are_refused_by_name(overrides: dict[str, Any], words: list[str]) -> None:
    found = refusal(overrides)
    for word in words:
        assert word in found


@pytest.mark.helm
@pytest.mark.parametrize(
    "overrides",
    [
        {"global": {"imageRegistry": "registry.example.com"}, "enabled": True},  # from a parent chart
        {"features": ["a b", "load.mean", "größe", "loa", "load", " blanks "], "label": " y"},
        {"rls.halfLife": None},
        {"kafka.trainTopic": "a.b-c_D", "kafka.testTopic": "x"},
        EXISTING_KAFKA | {"kafka.securityProtocol": "PLAINTEXT", "kafka.trainTopic": "train_"},
        EXISTING_KAFKA | {"kafka.securityProtocol": "PLAINTEXT", "kafka.bootstrap": "a:1,[::1]:65535"},
        {"kafka.nodes": 5},
        {"kafka.authentication": "tls", "kafka.optionsSecret": "options"},
        EXISTING_KAFKA | {"kafka.saslMechanism": "OAUTHBEARER", "kafka.optionsSecret": "options"},
        {"image.spark.repository": "localhost:5000/a/b_c.d", "image.spark.tag": "v1.2_3-x"},
        {"image.dashboards.tag": f"0.1.0@sha256:{'a' * 64}"},
        {"app.driver.memory": "500m", "app.executor.memory": "1g", "app.driver.coreRequest": "0.5"},
        {"app.sparkConf": {"spark.sql.shuffle.partitions": "4"}},
        {"kibana.version": "9.4.3"},
        {"elasticsearch.version": "8.3.0", "kibana.enabled": False, "dashboards.enabled": False},
        {"elasticsearch.version": "8.19.21", "kibana.version": "8.12.0"},
        {"networkPolicies.apiServerCidr": "fd00:10:96::/112"},
        {"networkPolicies.kafkaFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]},
    ],
)
def test_good_values_are_taken(overrides: dict[str, Any]) -> None:
    assert refusal(overrides) == ""


@pytest.mark.helm
def test_large_numbers_stay_whole_numbers(tmp_path: Path) -> None:
    """Helm reads numbers in a file as floats, and would write a million as 1e+06."""
    values = tmp_path / "values.yaml"
    values.write_text("dashboards: {timeoutSeconds: 2000000}\nkafka: {partitions: 1000000}\n")
    objects = render(values)
    assert find(objects, "Job")["spec"]["activeDeadlineSeconds"] == 2_000_000
    assert find(objects, "KafkaTopic", "streaming-ml-train")["spec"]["partitions"] == 1_000_000
    assert "e+" not in yaml.safe_dump(
        [manifest for manifest in objects if manifest["kind"] in {"Job", "Pod", "KafkaTopic"}]
    )


@pytest.mark.helm
def test_all_that_is_wrong_is_said_at_once() -> None:
    found = refusal({"label": "distance", "kibana.enabled": False, "kafka.enabled": False})
    assert found.count("\n  - ") == 4
