"""The producer's settings: a flag overrides the environment, and each wrong setting gives one line."""

from __future__ import annotations

from fractions import Fraction

import pytest

from producer.__main__ import main
from producer.errors import ConfigError
from producer.settings import Settings, load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


def messages(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(argv)
    return str(caught.value).splitlines()


def test_flag_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load([]).kafka_bootstrap == "localhost:9092"
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "a:1")
    assert load([]).kafka_bootstrap == "a:1"
    assert load(["--kafka-bootstrap", "b:2,[::1]:3"]).kafka_bootstrap == "b:2,[::1]:3"


def test_empty_environment_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNT", "")
    assert load([]).count is None


@pytest.mark.parametrize(("text", "share"), [("0.2", Fraction(1, 5)), ("1/3", Fraction(1, 3)), ("0", 0), ("1", 1)])
def test_test_fraction_is_exact(text: str, share: Fraction) -> None:
    assert load(["--test-fraction", text]).test_fraction == share


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURES", "a, b")
    settings = load(["--weights=-1,2.5"])
    assert (settings.features, settings.weights) == (("a", "b"), (-1.0, 2.5))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--count", "x"], "--count / COUNT: should be a whole number (found 'x')"),
        (["--count", "0"], "--count / COUNT: should be greater than 0 (found '0')"),
        (["--rate", "-1"], "--rate / RATE: should be greater than or equal to 0 (found '-1')"),
        (["--rate", "nan"], "--rate / RATE: should be a finite number (found 'nan')"),
        (["--source", "x"], "--source / SOURCE: should be 'synthetic', 'flights' or 'ndjson' (found 'x')"),
        (["--weights", "1,x,3"], "--weights / WEIGHTS: should be a number (found 'x')"),
        (["--weights", "1,2"], "--weights / WEIGHTS: found 2 numbers: give 3, one for each feature"),
        (["--features", "a,b,y"], "--features / FEATURES: a,b,y and the label y must be different names"),
        (
            ["--drift-row", "3"],
            "--drift-weights / DRIFT_WEIGHTS: not set: --drift-row and --drift-weights must be given together",
        ),
        (
            ["--test-fraction", "1.5"],
            "--test-fraction / TEST_FRACTION: should be less than or equal to 1 (found '1.5')",
        ),
        (
            ["--test-fraction", "1/0"],
            "--test-fraction / TEST_FRACTION: '1/0' is not a number from 0 to 1, such as 0.2 or 1/5",
        ),
        (
            ["--kafka-bootstrap", "here"],
            "--kafka-bootstrap / KAFKA_BOOTSTRAP: 'here' is not host:port (a port is 1 to 65535)",
        ),
        (
            ["--kafka-train-topic", "a b"],
            "--kafka-train-topic / KAFKA_TRAIN_TOPIC: 'a b' is not a valid topic name: use letters, digits, '.', '_' "
            "and '-', at most 249",
        ),
        (
            ["--kafka-test-topic", "train"],
            "--kafka-test-topic / KAFKA_TEST_TOPIC: 'train' is also the train topic: use two different topics",
        ),
        (
            ["--kafka-ca-file", "/not/there"],
            "--kafka-ca-file / KAFKA_CA_FILE: there is no file /not/there",
        ),
        (
            ["--source", "ndjson"],
            "--input-file / INPUT_FILE: not set: --source ndjson needs a file, or - for standard input",
        ),
        (
            ["--source", "ndjson", "--input-file", "/not/there"],
            "--input-file / INPUT_FILE: '/not/there' is not an existing file: name one, or - for standard input",
        ),
        (
            ["--flight-fields", "carrier,runway"],
            "--flight-fields / FLIGHT_FIELDS: 'runway' is not a column of the flights: choose from year, month, day, "
            "dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, flight, tailnum, "
            "origin, dest, air_time, distance, hour, minute, time_hour",
        ),
        (["--flight-fields", "carrier,carrier"], "--flight-fields / FLIGHT_FIELDS: carrier is listed twice"),
        (
            ["--value-format", "avro"],
            "--value-format avro needs --schema-registry-url, the address of the schema registry",
        ),
        (
            ["--schema-registry-url", "http://r:1"],
            "--schema-registry-url needs --value-format json-schema-registry or avro: add this setting",
        ),
        (
            ["--source", "ndjson", "--input-file", "-", "--value-format=avro", "--schema-registry-url=http://r:1"],
            "--value-schema-file / VALUE_SCHEMA_FILE: not set: --source ndjson and --value-format avro need a file "
            "with the schema",
        ),
        (
            ["--value-schema-file", __file__],
            "--value-schema-file / VALUE_SCHEMA_FILE: would not be read: only --source ndjson with another "
            "--value-format reads it",
        ),
        (["--input-file", "-"], "--input-file / INPUT_FILE: '-' would not be read: only --source ndjson reads a file"),
    ],
)
def test_message_names_setting_and_what_is_right(argv: list[str], line: str) -> None:
    assert messages(*argv) == [line]


def test_other_sources_ignore_the_settings_of_synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """FEATURES may be set for the streaming regression, which also reads it."""
    monkeypatch.setenv("FEATURES", "dep_delay,distance")
    assert load(["--source", "flights"]).source == "flights"


def test_every_wrong_setting_has_its_line() -> None:
    assert messages("--kafka-security-protocol", "SASL_SSL") == [
        "--kafka-user / KAFKA_USER: not set: SASL_SSL needs the user's name",
        "--kafka-password-file / KAFKA_PASSWORD_FILE: not set: SASL_SSL needs a file with the password",
    ]
    assert len(messages("--count", "x", "--rate", "y", "--source", "z")) == 3


def test_unknown_flag_is_named_without_its_value() -> None:
    """A user may try to give a password as a flag: it must not reach the log."""
    (line,) = messages("--kafka-password=hidden", "--kafka-passwort", "hidden")
    assert "--kafka-password --kafka-passwort" in line
    assert "hidden" not in line


def test_wrong_setting_ends_the_program_with_2_and_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--count", "x"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("ERROR --count / COUNT: should be a whole number (found 'x')\n")
    assert len(err.splitlines()) == 1


def test_help_explains_every_setting(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capfd.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert field.description
    assert text.count("(default: ") == len(Settings.model_fields)
