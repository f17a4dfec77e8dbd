"""Settings: flags, environment and defaults, and the messages for wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streaming_regression import secret
from streaming_regression.errors import ConfigError
from streaming_regression.server_settings import SECRETS
from streaming_regression.settings import Complete, load

FILES = {name for name in Complete.model_fields if name.endswith("_file")}
GIVEN: dict[str, Any] = {
    "kafka_bootstrap": "a:1,b:2",
    "kafka_train_topic": "learn",
    "kafka_test_topic": "predict",
    "kafka_security_protocol": "SSL",
    "kafka_sasl_mechanism": "PLAIN",
    "kafka_user": "sparky",
    "kafka_oauth_token_url": "https://login.example.com/token",
    "kafka_oauth_client_id": "learner",
    "kafka_oauth_scope": "kafka read",
    "kafka_option": "fetch.wait.max.ms=5",
    "elasticsearch_user": "elf",
    "elasticsearch_url": "https://a:1,https://b:2/path",
    "value_format": "avro",
    "schema_registry_url": "https://a:1/path,https://b:2",
    "schema_registry_user": "reggie",
    "features": "a,b,c",
    "label": "z",
    "numeric_strings": True,
    "unknown_category": "zeros",
    "booleans_as_numbers": True,
    "learner": "sgd",
    "initial_weights": "1,-2.5,1e3",
    "initial_intercept": 2.5,
    "bayes_half_life": 200.0,
    "rls_half_life": 100.0,
    "rls_ridge": 0.5,
    "sgd_step_size": 0.25,
    "sgd_iterations": 7,
    "sgd_convergence_tolerance": 0.5,
    "sgd_intercept": True,
    "trigger_interval_s": 0.0,
    "max_offsets_per_trigger": 9,
    "points_fraction": 0.01,
    "drift_growth": 2.0,
    "prediction_intervals": True,
    "on_data_loss": "continue",
    "elasticsearch_max_request_bytes": 123_456,
    "available_now": True,
    "checkpoint": "s3a://bucket/folder",
    "index_prefix": "flights",
    "index_shards": 3,
    "index_replicas": 2,
    "index_refresh_interval_s": 2.5,
    "replace_run": True,
    "retention_days": 0,
    "server_timeout_s": 0.5,
    "metrics_port": 9404,
    "java_options": "-Xint -ea",
    "log_level": "DEBUG",
    "log_format": "json",
}
"""A value other than the default for each setting except files."""
OAUTH = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "OAUTHBEARER",
    "kafka_oauth_token_url": "https://login:8443/token",
    "kafka_oauth_client_id": "me",
    "kafka_oauth_client_secret_file": __file__,
}


def oauth(*but: str) -> list[str]:
    """The flags of OAUTHBEARER without some of them."""
    return [word for name, value in OAUTH.items() if name not in but for word in (flag(name), value)]


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


KEY_PAIR = ["--kafka-security-protocol", "SSL", "--kafka-certificate-file", __file__, "--kafka-key-file", __file__]
HTTPS = ["--elasticsearch-url", "https://a:9200"]
AVRO, REGISTRY = ["--value-format", "avro"], ["--schema-registry-url", "https://r:1"]
BESIDE = {
    **{name: oauth(name) for name in (*OAUTH, "kafka_oauth_scope", "kafka_oauth_ca_file") if "oauth" in name},
    "kafka_user": ["--kafka-security-protocol", "SASL_SSL", "--kafka-password-file", __file__],
    "kafka_password_file": ["--kafka-security-protocol", "SASL_SSL", "--kafka-user", "sparky"],
    "kafka_ca_file": KEY_PAIR[:2],
    "kafka_certificate_file": [*KEY_PAIR[:2], *KEY_PAIR[4:]],
    "kafka_key_file": KEY_PAIR[:4],
    "kafka_key_password_file": KEY_PAIR,
    "elasticsearch_certificate_file": [*HTTPS, "--elasticsearch-key-file", __file__],
    "elasticsearch_key_file": [*HTTPS, "--elasticsearch-certificate-file", __file__],
    "elasticsearch_key_password_file": [
        *(*HTTPS, "--elasticsearch-certificate-file", __file__, "--elasticsearch-key-file", __file__)
    ],
    "elasticsearch_ca_file": ["--elasticsearch-url", "https://a:9200"],
    "elasticsearch_user": ["--elasticsearch-password-file", __file__],
    "elasticsearch_password_file": ["--elasticsearch-user", "elf"],
    "value_format": REGISTRY,
    "schema_registry_url": AVRO,
    "schema_registry_user": [*AVRO, *REGISTRY, "--schema-registry-password-file", __file__],
    "schema_registry_password_file": [*AVRO, *REGISTRY, "--schema-registry-user", "reggie"],
    "schema_registry_ca_file": [*AVRO, *REGISTRY],
    "schema_registry_token_file": [*AVRO, *REGISTRY],
}
"""Other settings that a setting needs."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without settings."""
    for name in Complete.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def help_text(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    environment.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as end:
        load(["--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def given(name: str, value: Any) -> list[str]:
    return [flag(name)] if value is True else [flag(name), str(value)]


def fault(*argv: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(argv)
    assert error.value.exit_code == 2
    return str(error.value)


@pytest.mark.parametrize("name", Complete.model_fields)
def test_help_explains_every_setting_with_its_default_and_variable(help_text: str, name: str) -> None:
    setting = Complete.model_fields[name]
    assert setting.description
    (entry,) = (entry for entry in re.split(r"\n  (?=-)", help_text) if re.match(rf"{flag(name)}[ ,\n]", entry))
    shown = " ".join(entry.split())
    default = "<none>" if setting.default is None else setting.default
    assert shown.endswith(f"{setting.description} (default: {default}) [env: {name.upper()}]")


def test_help_and_wrong_settings_need_neither_spark_nor_elasticsearch() -> None:
    """Both are slow to import; a typo should be reported at once."""
    program = (
        "import sys; from streaming_regression.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert main(['--learner', 'none']) == 2\n"
        "print({'pyspark', 'py4j', 'elasticsearch', 'pandas', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_defaults_need_nothing_given() -> None:
    assert load([]) == Complete.model_construct(**{k: v.default for k, v in Complete.model_fields.items()})


def test_the_values_of_these_tests_cover_every_setting_and_no_default() -> None:
    assert set(GIVEN) | FILES == set(Complete.model_fields)
    assert not [name for name, value in GIVEN.items() if Complete.model_fields[name].default == value]


@pytest.mark.parametrize(("name", "value"), GIVEN.items())
def test_each_setting_is_a_flag_and_a_variable_and_the_flag_wins(
    environment: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    beside = BESIDE.get(name, [])
    assert getattr(load([*beside, *given(name, value)]), name) == value
    environment.setenv(name.upper(), str(value))
    assert getattr(load(beside), name) == value
    default = Complete.model_fields[name].default
    if value is True:
        assert getattr(load([f"--no{flag(name)[1:]}"]), name) is False
    elif default is not None:
        assert getattr(load([f"{flag(name)}={default}"]), name) == default


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_file_is_a_flag_and_a_variable_and_the_flag_wins(
    environment: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    beside = BESIDE.get(name, [])
    for file in (tmp_path / "one", tmp_path / "two"):
        file.write_text("x")
    environment.setenv(name.upper(), str(tmp_path / "one"))
    assert getattr(load(beside), name) == tmp_path / "one"
    assert getattr(load([*beside, flag(name), str(tmp_path / "two")]), name) == tmp_path / "two"


@pytest.mark.parametrize("name", Complete.model_fields)
def test_an_empty_variable_counts_as_unset(environment: pytest.MonkeyPatch, name: str) -> None:
    """A chart sets a variable for each value, even for a value that is not given."""
    environment.setenv(name.upper(), "")
    assert getattr(load([]), name) == Complete.model_fields[name].default


def test_lists_are_split_at_commas_without_the_spaces_around() -> None:
    settings = load(["--features", "dep_delay, air time ,x.y", "--initial-weights", "1, 2,3", "--initial-intercept=-4"])
    assert settings.fields.features == ("dep_delay", "air time", "x.y")
    assert settings.initial == (-4.0, 1.0, 2.0, 3.0)
    assert load(["--features", "a"]).initial == (0.0, 0.0)


def test_a_feature_with_categories_has_a_weight_for_each_of_them() -> None:
    argv = ["--features", "dep_delay,carrier[UA| AA |x\\|y],air_time"]
    settings = load(argv)
    assert settings.fields.layout.fields == ("dep_delay", "carrier", "air_time")
    names = ("dep_delay", "carrier=UA", "carrier=AA", "carrier=x\\|y", "air_time")
    assert settings.fields.layout.columns == names
    assert settings.fields.layout.categories == {"carrier": ("UA", "AA", "x|y")}
    assert settings.initial == (0.0,) * 6
    assert load([*argv, "--initial-weights", "1,2,3,4,5"]).initial == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    expected = "has 3 numbers for 3 --features with 5 numbers and categories together: give one for each"
    assert expected in fault(*argv, "--initial-weights", "1,2,3")


WRONG = [
    ("kafka_bootstrap", "localhost", "'localhost' is not host:port"),
    ("kafka_bootstrap", "a:1,", "'a:1,' has an empty part"),
    ("kafka_bootstrap", "a:99999", "'a:99999' is not host:port"),
    ("kafka_bootstrap", "kafka://a:1", "'kafka://a:1' is not host:port"),
    ("kafka_train_topic", "no spaces", "letters, digits"),
    ("kafka_test_topic", "..", "'..' is not a valid topic name"),
    ("kafka_security_protocol", "TLS", "'SASL_SSL' (found 'TLS')"),
    ("kafka_sasl_mechanism", "GSSAPI", "(found 'GSSAPI')"),
    ("elasticsearch_url", "localhost:9200", "'localhost:9200' is not http://host:port"),
    ("elasticsearch_url", "http://a:0", "is not http://host:port"),
    ("value_format", "protobuf", "'json', 'json-schema-registry' or 'avro' (found 'protobuf')"),
    ("schema_registry_url", "registry", "'registry' is not http://host:port"),
    ("features", "a:int", "looks like a name with a type"),
    ("features", "a,,b", "'a,,b' has an empty part"),
    ("features", "a,b,a,c,c", "a, c are listed twice"),
    ("features", "a..b", "two dots in a row"),
    ("label", "a,b", "'a,b' is not a valid field name"),
    ("label", "a[b|c]", "categories, field[a|b], can only be at the end of a feature"),
    ("unknown_category", "zero", "'invalid' or 'zeros' (found 'zero')"),
    ("learner", "ols", "'rls' or 'sgd' (found 'ols')"),
    ("initial_weights", "1,2,x", "'x' is not a number between -1e+70 and 1e+70"),
    ("initial_weights", "1,2,nan", "'nan' is not a number"),
    ("initial_weights", "1,2,", "'1,2,' has an empty part"),
    ("initial_intercept", "inf", "finite number (found 'inf')"),
    ("initial_intercept", "1e71", "'1e+71' is not a number between -1e+70 and 1e+70"),
    ("rls_half_life", "0", "greater than 0 (found '0')"),
    ("rls_ridge", "-1", "greater than or equal to 0 (found '-1')"),
    ("sgd_step_size", "nan", "(found 'nan')"),
    ("sgd_iterations", "1.5", "a whole number (found '1.5')"),
    ("sgd_convergence_tolerance", "2", "less than or equal to 1 (found '2')"),
    ("trigger_interval_s", "inf", "finite number (found 'inf')"),
    ("trigger_interval_s", "1e9", "less than or equal to 86400 (found '1e9')"),
    ("elasticsearch_max_request_bytes", "999", "greater than or equal to 1000 (found '999')"),
    ("max_offsets_per_trigger", "0", "greater than 0 (found '0')"),
    ("max_offsets_per_trigger", "3000000000", "less than or equal to 2147483647"),
    ("points_fraction", "0", "should be greater than 0 (found '0')"),
    ("points_fraction", "1.01", "should be less than or equal to 1 (found '1.01')"),
    ("points_fraction", "nan", "should be a finite number (found 'nan')"),
    ("points_fraction", "1 %", "should be a number (found '1 %')"),
    ("drift_growth", "1", "should be 0, for no test, or at least 1.05 (found 1)"),
    ("drift_growth", "1001", "should be less than or equal to 1000 (found '1001')"),
    ("metrics_port", "65536", "should be less than or equal to 65535 (found '65536')"),
    ("available_now", "perhaps", "(found 'perhaps')"),
    ("index_prefix", "Spark", "invalid index prefix 'Spark': use lower-case letters"),
    ("index_prefix", "a/b", "invalid index prefix 'a/b'"),
    ("retention_days", "1e99", "(found '1e99')"),
    ("retention_days", "100000", "less than or equal to 36500"),
    ("server_timeout_s", "soon", "(found 'soon')"),
    ("log_level", "info", "'INFO', 'WARNING' or 'ERROR' (found 'info')"),
    ("log_format", "xml", "'text' or 'json' (found 'xml')"),
]


@pytest.mark.parametrize(("name", "value", "text"), WRONG)
def test_a_wrong_value_is_named_with_flag_and_variable_however_it_was_given(
    environment: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    environment.setenv(name.upper(), value)
    line = fault()
    assert line.startswith(f"{flag(name)} / {name.upper()}: ")
    assert text in line
    assert "\n" not in line
    environment.delenv(name.upper())
    if name != "available_now":  # a flag without a value
        assert fault(f"{flag(name)}={value}") == line


def test_all_wrong_settings_are_listed_each_on_a_line() -> None:
    lines = fault("--learner", "ols", "--rls-ridge", "-1", "--index-prefix", "_").splitlines()
    assert [line.split(" ")[0] for line in lines] == ["--learner", "--index-prefix", "--rls-ridge"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_not_there_is_named_unless_it_may_be_the_secret_itself(name: str) -> None:
    line = fault(flag(name), "/nowhere/hunter2")
    assert line.startswith(f"{flag(name)} / {name.upper()}: there is no ")
    assert ("hunter2" in line) == (name not in SECRETS)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    line = fault("--elasticsearch-url", "https://elastic:hunter2@search:9200")
    assert "a URL must not contain a password: use --elasticsearch-user and --elasticsearch-password-file" in line
    assert "hunter2" not in line
    line = fault("--schema-registry-url", "https://me:hunter2@registry:8081")
    assert "use --schema-registry-user and --schema-registry-password-file" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--features", "a,y", "--label", "y"], "--label y is also one of the --features"),
        (["--features", "a,y[b|c]", "--label", "y"], "--label y is also one of the --features"),
        (["--kafka-train-topic", "t", "--kafka-test-topic", "t"], "are the same: use two different topics"),
        (["--initial-weights", "1,2"], "--initial-weights has 2 numbers for 3 --features"),
        (
            ["--elasticsearch-user", "u"],
            "--elasticsearch-user and --elasticsearch-password-file must be given together",
        ),
        (["--elasticsearch-password-file", __file__], "must be given together: one is missing"),
        (["--elasticsearch-ca-file", __file__], "--elasticsearch-ca-file needs https"),
        (
            [*BESIDE["elasticsearch_user"], "--elasticsearch-user", "u", "--elasticsearch-api-key-file", __file__],
            "cannot be given together: use one of them",
        ),
        (
            ["--elasticsearch-token-file", __file__, *BESIDE["elasticsearch_user"], "--elasticsearch-user", "u"],
            "--elasticsearch-token-file and --elasticsearch-user cannot be given together: use one of them",
        ),
        (
            ["--elasticsearch-token-file", __file__, "--elasticsearch-api-key-file", __file__],
            "--elasticsearch-token-file and --elasticsearch-api-key-file cannot be given together",
        ),
        (
            [*HTTPS, "--elasticsearch-key-file", __file__],
            "--elasticsearch-certificate-file and --elasticsearch-key-file must be given together",
        ),
        (
            [*BESIDE["elasticsearch_key_file"][2:], "--elasticsearch-key-file", __file__],
            "--elasticsearch-certificate-file needs https: use https in --elasticsearch-url",
        ),
        (
            ["--elasticsearch-key-password-file", __file__],
            "--elasticsearch-key-password-file is the password of --elasticsearch-key-file, which is not set",
        ),
        (AVRO, "--value-format avro needs --schema-registry-url, the address of the schema registry"),
        (REGISTRY, "--schema-registry-url needs --value-format json-schema-registry or avro: add this setting"),
        ([*AVRO, *REGISTRY, "--schema-registry-user", "u"], "--schema-registry-password-file must be given together"),
        ([*AVRO, *REGISTRY, "--schema-registry-password-file", __file__], "must be given together: one is missing"),
        (
            [*BESIDE["schema_registry_user"], "--schema-registry-user", "u", "--schema-registry-token-file", __file__],
            "--schema-registry-token-file and --schema-registry-user cannot be given together: use one of them",
        ),
        (
            [*AVRO, "--schema-registry-url", "http://r:1", "--schema-registry-ca-file", __file__],
            "--schema-registry-ca-file needs https",
        ),
        (["--kafka-security-protocol", "SASL_SSL"], "needs --kafka-user and --kafka-password-file"),
        (["--kafka-security-protocol", "SASL_PLAINTEXT", "--kafka-user", "u"], "--kafka-password-file"),
    ],
)
def test_settings_that_do_not_go_together_are_named(argv: list[str], text: str) -> None:
    assert text in fault(*argv)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["stray"], "unrecognized arguments: stray"),
        (["--kafka"], "unrecognized arguments: --kafka"),  # no abbreviations: new settings would make them ambiguous
        (["--features"], "--features: expected one argument"),
        (["--available-now=perhaps"], "--available-now"),
        (["--learner", "rls", "sgd"], "unrecognized arguments: sgd"),
        (["--checkpoint="], "--checkpoint: the value is empty"),
        (["--kafka-user", ""], "--kafka-user: the value is empty"),
    ],
)
def test_garbage_among_the_flags_is_named(argv: list[str], text: str) -> None:
    assert text in fault(*argv)


@pytest.mark.parametrize("text", ["hunter2", "hunter2\n", "hunter2\r\n"])
def test_a_secret_is_read_without_the_line_break_at_its_end(tmp_path: Path, text: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(text.encode())
    assert secret.read(file, "kafka_password_file") == "hunter2"


@pytest.mark.parametrize(
    ("content", "text"), [(b"", "is empty"), (b"\n", "is empty"), (b"hunter2\xff", "is not valid UTF-8 text")]
)
def test_an_unusable_secret_is_named_by_its_file_alone(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        secret.read(file, "kafka_password_file")
    assert str(error.value).startswith(f"--kafka-password-file / KAFKA_PASSWORD_FILE: {file} ")
    assert text in str(error.value)
    assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        secret.read(tmp_path / "absent", "kafka_password_file")
