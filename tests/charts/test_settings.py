"""The same names everywhere: a value `kafka.trainTopic` is the variable KAFKA_TRAIN_TOPIC of the programs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

import dashboards.settings
import producer.settings
import streaming_regression.settings
from dashboards.dashboard import dashboard_id
from dashboards.panels import Names
from streaming_regression.schema import Storage
from tests.charts.rendering import CHART, RELEASE, Object, find, helm, refusal, render, spark_pod
from tests.strategies import AWKWARD_NAMES

pytestmark = pytest.mark.helm

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
TEXT = (CHART / "values.yaml").read_text()
BY_SECRET = {
    "KAFKA_PASSWORD_FILE",
    "KAFKA_CA_FILE",
    "KAFKA_CERTIFICATE_FILE",
    "KAFKA_KEY_FILE",
    "KAFKA_OAUTH_CLIENT_SECRET_FILE",
    "KAFKA_OAUTH_CA_FILE",
    "KAFKA_OPTIONS_FILE",
    "ELASTICSEARCH_USER",
    "ELASTICSEARCH_PASSWORD_FILE",
    "ELASTICSEARCH_CA_FILE",
    "ELASTICSEARCH_TOKEN_FILE",
    "ELASTICSEARCH_CERTIFICATE_FILE",
    "ELASTICSEARCH_KEY_FILE",
    "SCHEMA_REGISTRY_PASSWORD_FILE",
    "SCHEMA_REGISTRY_TOKEN_FILE",
    "SCHEMA_REGISTRY_CA_FILE",
    "KIBANA_USER",
    "KIBANA_PASSWORD_FILE",
    "KIBANA_TOKEN_FILE",
    "KIBANA_CA_FILE",
}
"""Variables that the chart sets from Secrets, whose names are values."""
NOT_OFFERED = {
    "AVAILABLE_NOW",  # a stream that ends would be restarted for ever
    "CHECKPOINT",  # the folder follows from indexPrefix
    "ELASTICSEARCH_API_KEY_FILE",
    "KIBANA_API_KEY_FILE",
    "KAFKA_KEY_PASSWORD_FILE",  # keys in Secrets are not encrypted
    "ELASTICSEARCH_KEY_PASSWORD_FILE",
    "KAFKA_OPTION",  # kafka.optionsSecret names a Secret with options
    "DASHBOARDS_FILE",
    "DRY_RUN",
    "REQUEST_TIMEOUT_S",
}
IN_THE_CHART = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "METRICS_PORT": 9404}
"""Defaults that differ in the chart: there, a pod has all ports for itself, and NetworkPolicies close them."""
VARIABLES_OF_VALUES = {"HTTPS_PROXY", "TZ", "ES_JAVA_OPTS"}
"""Variables of pods in ci/pods-values.yaml, which are no settings."""
VOLUMES_OF_VALUES = {"certificates", "token"}
OWN_VALUE = {"load": {"SERVER_TIMEOUT_S"}}  # dashboards.timeoutSeconds


def variables(group: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the variable that corresponds to each value, and the value's default."""
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
    names = [variable["name"] for variable in container["env"]]
    assert len({*names}) == len(names), "a variable stands there twice"
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


SETTINGS: dict[str, type[BaseSettings]] = {
    "app": streaming_regression.settings.Complete,
    "load": dashboards.settings.Load,
}


@pytest.mark.parametrize("program", SETTINGS)
def test_every_setting_of_a_program_is_a_value_of_the_same_words(program: str) -> None:
    fields = {name.upper() for name in SETTINGS[program].model_fields}
    values = {name for name, _ in variables(VALUES)}
    assert fields - values - BY_SECRET - NOT_OFFERED - OWN_VALUE.get(program, set()) == set()


@pytest.mark.parametrize("program", SETTINGS)
def test_the_programs_know_every_variable_that_they_are_given(program: str, objects: list[Object]) -> None:
    if program == "load" and not [manifest for manifest in objects if manifest["kind"] == "Job"]:
        return
    names = environment(objects, program).keys() - VARIABLES_OF_VALUES
    assert names <= {name.upper() for name in SETTINGS[program].model_fields}


def test_a_value_that_is_a_setting_says_so_and_has_its_default() -> None:
    fields = streaming_regression.settings.Complete.model_fields
    for variable, default in variables(VALUES):
        field = fields.get(variable.lower())
        if field is None or variable in BY_SECRET:
            continue
        assert f"({variable})" in TEXT, variable
        expected = IN_THE_CHART.get(variable, field.default)
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
    settings: Any = streaming_regression.settings.load([])  # the learners add attributes at run time
    assert settings.fields.features == ("temperature", "load.mean")
    assert (settings.fields.numeric_strings, settings.fields.booleans_as_numbers) == (True, True)
    assert settings.initial == (2.0, 0.5, -1.5)
    assert (settings.learner, settings.rls_half_life, settings.rls_ridge) == ("sgd", 1e6, 0.1)
    assert (settings.sgd_iterations, settings.sgd_convergence_tolerance, settings.sgd_intercept) == (20, 0.0, True)
    assert (settings.max_offsets_per_trigger, settings.trigger_interval_s) == (2_000_000, 0.5)
    assert (settings.points_fraction, settings.drift_growth) == (0.00001, 1.25)
    assert settings.prediction_intervals
    assert (settings.index_prefix, settings.checkpoint, settings.replace_run) == ("wear", "/checkpoint/wear", True)
    assert (settings.kafka_train_topic, settings.kafka_test_topic) == ("machines_train", "machines.Test")
    assert (settings.retention_days, settings.log_format) == (0, "json")
    assert settings.storage == Storage(shards=3, replicas=0, refresh_interval_s=0.5)
    assert settings.java_options == "-XX:+UseG1GC"
    given = environment(objects, "load")
    assert (given["KIBANA_SPACE"], given["FEATURES"], given["INDEX_PREFIX"]) == (
        "machines",
        "temperature,load.mean",
        "wear",
    )


EXISTING_KAFKA = {"kafka.enabled": False, "kafka.bootstrap": "kafka:9092", "kafka.securityProtocol": "PLAINTEXT"}
OAUTH = {
    "kafka.enabled": False,
    "kafka.bootstrap": "kafka:9093",
    "kafka.saslMechanism": "OAUTHBEARER",
    "kafka.oauth.clientId": "me",
    "kafka.oauth.tokenUrl": "https://login/token",
    "kafka.oauth.clientSecret": "login",
}
EXISTING_SEARCH = {"elasticsearch.enabled": False, "elasticsearch.url": "http://search:9200"} | {
    f"{name}Secret": "one" for name in ("elasticsearch.app", "elasticsearch.dashboards", "kibana.elasticsearch")
}
AVRO = {"valueFormat": "avro"}
EXISTING_KIBANA = {"kibana.enabled": False, "kibana.url": "http://kibana:5601"}
NAMES = ["a", "a b", " a ", "a\u00a0", "größe", "T [K]", "it's", "a%20", "x/y?z#1", "$$", "$(LABEL)", "__proto__", "🌡️"]
NAMES.append(r"a\.b")
BAD_NAMES = ["", " ", "a,b", "a:b", "a*", 'a"', "a\\", "<a>", "{a", ".a", "a.", "a..b", "a\nb", "a\x7f", "a\u2028b"]
BAD_NAMES += [r"a\b", r"a\\.b"]
CATEGORIES = ["a[b|c]", " a.b [ c | d e ] ", r"a\.b[x\|y|\[z\]]", "T [K][low|high]", r"speed \[m|s]", "t[08:00|12:30]"]
BAD_CATEGORIES = [
    "a[b|]",
    "a[|b]",
    "a[b|b]",
    "[a|b]",
    "a[b|c",
    "a[b|c]d",
    "a[b|c][d|e]",
    "a[b|c.]",
    "a[b|c*]",
    "a[b|c\n]",
]
BAD_CATEGORIES += [r"a[b|c\d]", "a:b[c|d]", "a[b|<]", "a[b|c\u2028]"]
ADDRESSES = [
    "a:1",
    "a_b.c-d:65535",
    "[::1]:9092",
    "[2001:DB8::7]:1",
    "[::ffff:10.0.0.1]:1",
    "10.0.0.1:9",
    " a:1 , b:2 ",
]
BAD_ADDRESSES = ["a", "a:0", "a:65536", "a:01", ":1", "::1:9092", "[::1::]:1", "[1:2]:3", "[::g]:1", "[::1%0]:1"]
BAD_ADDRESSES += ["a:1,", "a:1,,b:1", "a:1,a:1", "a;b:1", "a b:1", "me:it@a:1", "http://a:1"]
URLS = ["http://a", "https://[::1]/x", "http://a:1", "https://[::1]:9200", "http://a:1/base/path", " http://a:1 "]
BAD_URLS = [
    "a:1",
    "http://a:",
    "ftp://a:1",
    "http://a:1?b",
    "http://a:1/#b",
    "http://me:it@a:1",
    "http://::1:1",
    "http://a:0",
]
TOKEN_URLS = ["https://a/b", "http://a:1", "https://[::1]:8/x?y=z", " https://a/b "]
BAD_TOKEN_URLS = ["a/b", "ftp://a/b", "https://me:it@a/b", "https://a b/c", "https://a/b#c", "https://a/b\x01"]
TOPICS = ["a", "_a", "A.b-c_D", "x" * 249, " a "]
BAD_TOPICS = ["", ".", "..", "a b", "ä", "x" * 250, "a/b"]
PREFIXES = ["a", "9", "a.b-c_d", "x" * 200, " a "]
BAD_PREFIXES = ["A", "_a", "-a", "x" * 201, "a*", "a b", "ä"]
ERRORS = tuple(module.ConfigError for module in (dashboards.settings, producer.settings, streaming_regression.settings))
# A number as text is how Helm passes `--set rls.ridge=0.5` on.
SAME: list[tuple[str, list[Any], list[Any], Object]] = [
    (
        "features",
        [NAMES[3:], [" a "], ["a", "a.b"], *([name] for name in CATEGORIES), ["b", *CATEGORIES]],
        [  # in a flag, a,b are two names
            *([name] for name in [*BAD_NAMES, *BAD_CATEGORIES] if name != "a,b"),
            ["a", "a "],
            ["a", "a[b|c]"],
            ["x=a[b|c]", "x[a=b|d]"],
        ],
        {},
    ),
    ("label", NAMES, [*BAD_NAMES[1:], *BAD_CATEGORIES, "a[b|c]", "distance", " air_time"], {}),
    ("kafka.trainTopic", TOPICS, [*BAD_TOPICS[1:], "test"], EXISTING_KAFKA),
    ("indexPrefix", PREFIXES, BAD_PREFIXES, {}),
    ("kafka.bootstrap", ADDRESSES, BAD_ADDRESSES, EXISTING_KAFKA),
    ("kafka.oauth.tokenUrl", TOKEN_URLS, BAD_TOKEN_URLS, OAUTH),
    ("kafka.oauth.clientId", ["me", " $(X) "], ["a\nb"], OAUTH),
    ("kafka.oauth.scope", ["a b"], ["a\nb"], OAUTH),
    ("elasticsearch.url", [*URLS, "http://a:1, http://b:2"], [*BAD_URLS, "http://a:1,http://a:1"], EXISTING_SEARCH),
    ("schemaRegistry.url", [*URLS, "http://a:1, http://b:2"], [*BAD_URLS, "http://a:1,http://a:1"], AVRO),
    ("kibana.url", URLS, [*BAD_URLS, "http://a:1,http://b:2"], EXISTING_KIBANA),
    ("initial.weights", [[1, 2, 3, 4, 5]], [[1, 2, 3], [1, 2, 3, 4]], {"features": ["b", "a[b|c]", r"d[x\|y|z]"]}),
    ("initial.weights", [[1, -2.5, 1e70], ["0.5", "-1e-9", 0]], [[1, 2], [1, 2, 1.1e70], ["1e71", 2, 3]], {}),
    ("initial.intercept", [0, -1e70, "-2.5"], [-1.1e70, "-1e71", "0x1", "nan"], {}),
    ("rls.halfLife", [0.1, 1e9, "0.1", "1e9"], [0, -1, "0.0", "-0.1"], {}),
    ("rls.ridge", [0, 0.5, "0.5", ".5", "5."], [-0.1, "-0.1", "1,5", "a"], {}),
    ("sgd.stepSize", [1e-9], [0], {}),
    ("sgd.iterations", [1, 1_000_000], [0, 1.5, 1_000_001], {}),
    ("sgd.convergenceTolerance", [0, 1, "0.001", "1E-9"], [-0.1, 1.1, "1.1"], {}),
    ("triggerIntervalS", [0, 0.5, 86_400, "0.5"], [-1, 86_401, "86400.5"], {}),
    ("maxOffsetsPerTrigger", [1, 2**31 - 1], [0, 2**31], {}),
    ("pointsFraction", [1e-9, 0.01, 1, "0.01"], [0, -0.1, 1.01, "0.0", "1.01"], {}),
    ("indexShards", [1, 1024], [0, 1025, 1.5], {}),
    ("indexReplicas", [0, 100], [-1, 101, 0.5], {}),
    ("indexRefreshIntervalS", [0.001, 86_400], [0, -1, 86_401], {}),
    ("javaOptions", ["-Xint", " -XX:+UseG1GC  -Xss1m -Da=b ", "-ea"], ["-Xmx1g", "-ea -Xmx1g", "Xint", "-ea a"], {}),
    ("driftGrowth", [0, 1.05, 1.5, 1000], [-1, 0.5, 1, 1.04, 1001], {}),
    ("metricsPort", [0, 1, 9404, 65_535], [-1, 0.5, 65_536], {}),
    ("retentionDays", [0, 36_500], [-1, 36_501], {}),
    ("serverTimeoutS", [0, 0.5, 31_536_000, "0.5"], [-1, 31_536_001, "-0.5"], {}),
]


def taken_by_programs(variable: str, value: Any, others: Object) -> bool:
    """Return whether the programs that have a setting accept the value from its flag; they must all agree."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    programs: list[tuple[Any, type[BaseSettings]]] = [
        (streaming_regression.settings.load, streaming_regression.settings.Complete),
        (lambda argv: dashboards.settings.load(dashboards.settings.Load, argv), dashboards.settings.Load),
        (producer.settings.load, producer.settings.Settings),
    ]
    features = others.get("features", ["a", "b", "c"])
    oauth = {"TOKEN_URL": "https://a", "CLIENT_ID": "me", "CLIENT_SECRET_FILE": __file__}
    login = ["--kafka-security-protocol=SASL_SSL", "--kafka-sasl-mechanism=OAUTHBEARER"]
    needed = {
        "INITIAL_WEIGHTS": [f"--features={','.join(features)}"],
        "SCHEMA_REGISTRY_URL": ["--value-format=avro"],
    } | {
        f"KAFKA_OAUTH_{name}": [
            *login,
            *(
                f"--kafka-oauth-{other.lower().replace('_', '-')}={text}"
                for other, text in oauth.items()
                if other != name
            ),
        ]
        for name in (*oauth, "SCOPE")
    }
    answers = set()
    for load, settings in programs:
        ours = variable.lower() in settings.model_fields
        if not ours or (load is producer.settings.load and not variable.startswith(("KAFKA", "SCHEMA_REGISTRY"))):
            continue  # the producer's features are those of its synthetic points
        try:
            load([f"--{variable.lower().replace('_', '-')}={text}", *needed.get(variable, [])])
        except ERRORS:
            answers.add(False)
        else:
            answers.add(True)
    (answer,) = answers
    return answer


@pytest.mark.parametrize(("path", "good", "bad", "others"), SAME, ids=[row[0] for row in SAME])
def test_the_chart_takes_what_the_programs_take_and_nothing_else(
    path: str, good: list[Any], bad: list[Any], others: Object
) -> None:
    ((variable, _),) = variables(nested(path))
    wrong = {repr(value): "refused" for value in good if not taken_by_programs(variable, value, others)}
    wrong |= {repr(value): "taken" for value in bad if taken_by_programs(variable, value, others)}
    assert not wrong, f"by a program: {wrong}"
    wrong = {repr(value): why for value in good if (why := refusal({**others, path: value}))}
    wrong |= {repr(value): "taken" for value in bad if not refusal({**others, path: value})}
    assert not wrong, f"by the chart: {wrong}"


def nested(path: str) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest) if rest else None}


def test_names_reach_the_programs_through_kubernetes(tmp_path: Path) -> None:
    """In a variable Kubernetes replaces $$ by $, and $(NAME) by another variable."""
    values = tmp_path / "values.yaml"
    named = {"features": [*AWKWARD_NAMES, "$$", "$(LABEL)"], "label": " cost in $$ "}
    values.write_text(json.dumps(named, ensure_ascii=False))  # Python's YAML would not quote y, a boolean to Helm
    objects = render(values)
    for program in SETTINGS:
        given = environment(objects, program)
        assert "$" not in given["FEATURES"].replace("$$", "")
        assert given["FEATURES"].replace("$$", "$") == ",".join([*AWKWARD_NAMES, "$$", "$(LABEL)"])
        assert given["LABEL"].replace("$$", "$") == "cost in $$"


def test_1500_features_fit_into_a_variable_and_more_than_linux_allows_are_refused(tmp_path: Path) -> None:
    """Linux allows 128 KiB for a variable with its name; a longer one would keep the container from starting."""
    values = tmp_path / "values.yaml"
    names = ["@timestamp", *(f"machine.sensor {number}.value" for number in range(1499))]
    values.write_text(json.dumps({"features": names}))
    objects = render(values)
    for program in SETTINGS:
        given = environment(objects, program)["FEATURES"]
        assert streaming_regression.names.features(given) == tuple(names)
        assert subprocess.run(["true"], env={"FEATURES": given}, check=False).returncode == 0
    values.write_text(json.dumps({"features": [*names, "x" * 100_000]}))
    done = helm("template", "ml", CHART, "-f", values)
    assert re.search(r"features are 1\d{5} bytes long together: Linux allows 131,072 bytes", done.stderr)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["true"], env={"FEATURES": ",".join(names) + "x" * 100_000}, check=False)


def test_files_that_variables_name_are_mounted(objects: list[Object]) -> None:
    spec = find(objects, "SparkApplication")["spec"]
    folders = {mount["mountPath"] for mount in spec["driver"]["volumeMounts"]}
    ours = {
        role: {mount["mountPath"] for mount in spec[role]["volumeMounts"] if mount["name"] not in VOLUMES_OF_VALUES}
        for role in ("driver", "executor")
    }
    assert ours["driver"] - {"/checkpoint"} == ours["executor"]
    for name, value in environment(objects, "app").items():
        if name.endswith("_FILE"):
            assert value.rpartition("/")[0] in folders, name
    for job in (manifest for manifest in objects if manifest["kind"] == "Job"):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        folders = {mount["mountPath"] for mount in container["volumeMounts"]}
        for name, value in environment(objects, "load").items():
            if name.endswith("_FILE"):
                assert value.rpartition("/")[0] in folders, name


def test_java_logs_in_the_form_of_the_app() -> None:
    spec = find(render(CHART / "ci" / "own-model-values.yaml"), "SparkApplication")["spec"]
    for role in ("driver", "executor"):
        assert spec[role]["javaOptions"].endswith("/log4j2.properties -Dform=json")
        assert spec[role]["javaOptions"].startswith("-XX:+UseG1GC -Dlog4j2")


@pytest.mark.parametrize("space", ["", "default", "team_a"])
def test_the_notes_name_the_dashboard_that_the_loader_makes(space: str) -> None:
    values = ("--set", f"kibana.space={space}", "--set", "indexPrefix=ab")
    done = helm("install", RELEASE, CHART, "--dry-run=client", *values)
    expected = dashboard_id(Names(prefix="ab"), space or None)
    base = f"/s/{space}" if space == "team_a" else ""
    assert f"https://localhost:5601{base}/app/dashboards#/view/{expected} " in done.stdout, done.stderr
