"""The settings. Each has a flag `--kafka-bootstrap`, a variable `KAFKA_BOOTSTRAP` and a default; the flag wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_type_hints

from pydantic import (
    Field,
    FilePath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from streaming_regression import addresses, arguments, formats, names, registry
from streaming_regression.drift import LEAST_GROWTH
from streaming_regression.errors import ConfigError
from streaming_regression.kafka.login import check_login, login, options, token_url
from streaming_regression.learners import LEARNERS, LIMIT
from streaming_regression.learners import options as learner_fields
from streaming_regression.records import Fields
from streaming_regression.schema import Storage


def split(value: str) -> tuple[str, ...]:
    """Return the parts of a setting that is a list, `a,b,c`."""
    return tuple(part.strip() for part in value.split(","))


DAY_S = 86_400.0
JAVA_OPTIONS = re.compile(r"\s*(-([^X\s]\S*|X[^m\s]\S*|Xm[^x\s]\S*)(\s+|$))*")
SECRETS = frozenset(
    ["kafka_password_file", "kafka_key_password_file", "kafka_oauth_client_secret_file", "kafka_options_file"]
    + [f"elasticsearch_{kind}_file" for kind in ("password", "api_key", "token", "key_password")]
    + ["schema_registry_password_file", "schema_registry_token_file"]
)
"""Settings whose value may be the secret itself, by mistake."""


class Settings(BaseSettings):
    """An online linear regression over two Kafka topics: learns from one, predicts both, writes to Elasticsearch.

    Each setting is a flag or the environment variable in brackets; a flag wins. Passwords are read from files only.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        allow_inf_nan=False,
        env_ignore_empty=True,
        cli_prog_name="python -m streaming_regression",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_parse_none_str="<none>",  # the default, "None", may be a name
        cli_avoid_json=True,
        cli_show_env_vars=True,
        cli_exit_on_error=False,
    )

    kafka_bootstrap: str = Field("localhost:9092", description="brokers to connect to first, host:port[,host:port]")
    kafka_train_topic: str = Field("train", description="topic to learn from")
    kafka_test_topic: str = Field("test", description="topic to predict only; its records may have no label, or null")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of the brokers: encryption (SSL) and login (SASL)"
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="mechanism of the login, with a SASL_ protocol"
    )
    kafka_user: str | None = Field(None, description="user name, with a SASL_ protocol")
    kafka_password_file: FilePath | None = Field(None, description="file with that user's password")
    kafka_ca_file: FilePath | None = Field(None, description="PEM file with the CA of the brokers' certificates")
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

    elasticsearch_url: str = Field(
        "http://localhost:9200",
        description="nodes, http[s]://host[:port][,…]; without a port, https means 443 and http 80",
    )
    elasticsearch_ca_file: FilePath | None = Field(None, description="PEM file with the CA of the nodes' certificates")
    elasticsearch_user: str | None = Field(None, description="user name")
    elasticsearch_password_file: FilePath | None = Field(None, description="file with that user's password")
    elasticsearch_api_key_file: FilePath | None = Field(None, description="file with an API key, instead of a user")
    elasticsearch_token_file: FilePath | None = Field(None, description="file with a bearer token, instead of a user")
    elasticsearch_certificate_file: FilePath | None = Field(
        None, description="PEM file with this client's certificate, for nodes that require one"
    )
    elasticsearch_key_file: FilePath | None = Field(None, description="PEM file with that certificate's private key")
    elasticsearch_key_password_file: FilePath | None = Field(
        None, description="file with the password of that key, if it is encrypted"
    )
    elasticsearch_max_request_bytes: PositiveInt = Field(
        8_000_000,
        ge=1_000,
        le=100_000_000,
        description="largest write request, in bytes; reduced automatically if a proxy refuses one (HTTP 413)",
    )

    value_format: formats.Name = Field(
        "json",
        description="format of the records' values; json: a JSON object; json-schema-registry and avro: JSON or Avro "
        "that begins with the id of its schema in a schema registry (Confluent's wire format)",
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

    features: str = Field(
        "dep_delay,distance,air_time",
        description="names of the fields to learn from, a,b,c; if a record has no key payload.temp, that name is "
        "the path to the key temp of the object payload; data.0.v leads through the first element of the array data; a "
        "backslash before a dot makes the dot part of a key; carrier[UA|AA] is a field with these categories, not a "
        "number; @FILE reads the features from a file, one a line",
    )
    label: str = Field("arr_delay", description="name or path of the field to predict")
    numeric_strings: bool = Field(
        False,
        description="a feature or label that is a string counts as that number if it is a decimal number, such as "
        '"1.5", " 2 " or "1e3"; a comma, NaN or hexadecimal digits make the record invalid',
    )
    unknown_category: Literal["invalid", "zeros"] = Field(
        "invalid",
        description="a value that is not among the declared categories of its feature makes the record invalid, or "
        "counts as none of them (zeros)",
    )
    booleans_as_numbers: bool = Field(False, description="a feature or label that is false counts as 0, and true as 1")
    learner: str = Field(
        "rls", description="; ".join(f"{name}: {learner.summary}" for name, learner in LEARNERS.items())
    )
    initial_weights: str | None = Field(
        None,
        description="weights before the first record, one for each feature, and one for each category of a feature "
        "with categories (write --initial-weights=-1,2 if the first is negative)",
    )
    initial_intercept: float = Field(0.0, description="intercept before the first record, in units of the label")

    trigger_interval_s: NonNegativeFloat = Field(
        1.0, le=DAY_S, description="shortest time from the start of a micro-batch to the start of the next, in seconds"
    )
    max_offsets_per_trigger: PositiveInt = Field(
        200_000, le=2**31 - 1, description="largest number of records in a micro-batch, all partitions together"
    )
    on_data_loss: Literal["fail", "continue"] = Field(
        "fail",
        description="if Kafka deleted records before they were read: end with exit code 4 (fail), or skip them, log an "
        "ERROR line and write a document that describes the gap (continue)",
    )
    points_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="fraction of the points that is stored in Elasticsearch, chosen by topic, partition and offset; "
        "errors, metrics and model include every record, and all invalid records are stored",
    )
    drift_growth: float = Field(
        1.5,
        ge=0,
        le=1000,
        description="log a WARNING when the errors of a topic have grown by about this factor, at least 1.05; a "
        "smaller factor finds smaller changes; 0: no test",
    )
    prediction_intervals: bool = Field(
        False,
        description="store the standard error of each prediction (learners rls and bayes); if errors are normal, about "
        "95 % of the labels are within 2 standard errors of the prediction",
    )
    available_now: bool = Field(False, description="process the records that exist at the start, then end")
    checkpoint: str = Field(
        "checkpoint",
        description="folder, or URI of a file system that Spark's jars know (hdfs://; s3a:// needs hadoop-aws, which "
        "neither pyspark nor the image has), for offsets and model; keep it: a restart continues from it",
    )
    index_prefix: str = Field(
        "spark", description="indices are named PREFIX-points-DATE and so on; a prefix belongs to one run"
    )
    index_shards: PositiveInt = Field(
        1, le=1024, description="primary shards of each new index: more than one if one node cannot store all points"
    )
    index_replicas: NonNegativeInt | None = Field(
        None, le=100, description="copies of each shard of new indices; none: one copy if there is a second node"
    )
    index_refresh_interval_s: PositiveFloat | None = Field(
        None,
        ge=0.001,
        le=86_400,
        description="seconds until searches find the documents of new indices; none: at the end of each micro-batch",
    )
    replace_run: bool = Field(False, description="delete the documents of another run from the indices of the prefix")
    retention_days: NonNegativeInt = Field(
        30,
        le=36_500,
        description="delete indices older than this number of days, by the date in their names (UTC); 0: never",
    )
    server_timeout_s: NonNegativeFloat = Field(
        600.0,
        le=arguments.LONGEST_WAIT_S,
        description="seconds to wait while Kafka, Elasticsearch or the registry is unreachable or busy; then end with "
        "exit code 3",
    )

    metrics_port: NonNegativeInt = Field(
        0,
        le=65_535,
        description="port at which the driver serves the figures of model and stream in Prometheus' format, at "
        "http://HOST:PORT/metrics; 0: none",
    )
    java_options: str = Field(
        "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
        description="options of Spark's JVMs, separated by blanks, without -Xmx (the default: only Java's first "
        "compiler, because the second costs more than it saves); of the driver's JVM only if the app starts it",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level that is logged")
    log_format: Literal["text", "json"] = Field("text", description="format of the log lines, on standard error")

    @property
    def topics(self) -> dict[str, str]:
        """The topics by their role."""
        return {"train": self.kafka_train_topic, "test": self.kafka_test_topic}

    @property
    def fields(self) -> Fields:
        """The names of the features and of the label, and which values count as numbers and categories."""
        return Fields(
            split(self.features), self.label, self.numeric_strings, self.booleans_as_numbers, self.unknown_category
        )

    @property
    def format(self) -> formats.Format:
        """The format of the records' values, with the registry that it needs."""
        if self.schema_registry_url is None:
            return formats.Format()
        connection = registry.Connection(
            url=self.schema_registry_url,
            ca_file=self.schema_registry_ca_file,
            user=self.schema_registry_user,
            password_file=self.schema_registry_password_file,
            token_file=self.schema_registry_token_file,
            timeout_s=self.server_timeout_s,
        )
        return formats.Format(self.value_format, connection)

    @property
    def storage(self) -> Storage:
        """How new indices are stored."""
        return Storage(self.index_shards, self.index_replicas, self.index_refresh_interval_s)

    @property
    def initial(self) -> tuple[float, ...]:
        """The intercept and the weights before the first record."""
        if self.initial_weights is None:
            return (self.initial_intercept, *[0.0] * len(self.fields.layout.columns))
        return (self.initial_intercept, *map(float, split(self.initial_weights)))

    @property
    def learner_options(self) -> dict[str, Any]:
        """The learner's own settings, by the name of its field."""
        prefix = f"{self.learner}_"
        return {name.removeprefix(prefix): value for name, value in self if name.startswith(prefix)}

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        return arguments.setting(value, name, cls.model_fields[name].default)

    @field_validator("kafka_bootstrap")
    @classmethod
    def _brokers(cls, value: str) -> str:
        return addresses.brokers(value)

    @field_validator("kafka_oauth_token_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return value and token_url(value)

    @field_validator("kafka_option")
    @classmethod
    def _options(cls, value: str | None) -> str | None:
        options(value or "")
        return value

    @field_validator("elasticsearch_url")
    @classmethod
    def _nodes(cls, value: str) -> str:
        return addresses.urls(value, "elasticsearch")

    @field_validator("schema_registry_url")
    @classmethod
    def _registry(cls, value: str | None) -> str | None:
        return value and addresses.urls(value, "schema-registry")

    @field_validator("kafka_train_topic", "kafka_test_topic")
    @classmethod
    def _topic(cls, value: str) -> str:
        return names.topic(value)

    @field_validator("features")
    @classmethod
    def _names(cls, value: str) -> str:
        return ",".join(names.features(value))

    @field_validator("label")
    @classmethod
    def _name(cls, value: str) -> str:
        return names.field_name(value)

    @field_validator("drift_growth")
    @classmethod
    def _growth(cls, value: float) -> float:
        if 0 < value < LEAST_GROWTH:
            raise ValueError(f"should be 0, for no test, or at least {LEAST_GROWTH:g} (found {value:g})")
        return value

    @field_validator("checkpoint")
    @classmethod
    def _checkpoint(cls, value: str) -> str:
        return addresses.checkpoint(value)

    @field_validator("initial_weights", "initial_intercept")
    @classmethod
    def _finite(cls, value: str | float | None) -> str | float | None:
        for number in () if value is None else names.parts(str(value)):
            try:
                good = abs(float(number)) <= LIMIT
            except ValueError:
                good = False
            if not good:
                raise ValueError(f"{number!r} is not a number between -{LIMIT:g} and {LIMIT:g}")
        return value

    @field_validator("java_options")
    @classmethod
    def _java_options(cls, value: str) -> str:
        if not JAVA_OPTIONS.fullmatch(value):
            raise ValueError("each option must begin with a hyphen, and Spark sets -Xmx itself")
        return value

    @field_validator("index_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        return names.prefix(value)

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.label in self.fields.layout.fields:
            raise ValueError(f"--label {self.label} is also one of the --features: a label cannot predict itself")
        if self.kafka_train_topic == self.kafka_test_topic:
            raise ValueError("--kafka-train-topic and --kafka-test-topic are the same: use two different topics")
        layout, weights = self.fields.layout, len(self.initial) - 1
        if weights != len(layout.columns):
            wanted = f"{len(layout.fields)} --features"
            if layout.categories:
                wanted += f" with {len(layout.columns)} numbers and categories together"
            raise ValueError(f"--initial-weights has {weights} numbers for {wanted}: give one for each")
        addresses.check_login(self, "elasticsearch")
        addresses.check_registry(self)
        if login(self).password and not (self.kafka_user and self.kafka_password_file):
            protocol = self.kafka_security_protocol
            raise ValueError(f"--kafka-security-protocol {protocol} needs --kafka-user and --kafka-password-file")
        check_login(self)
        return self


def _options() -> dict[str, Any]:
    """Return the settings of all learners in pydantic's form, by name."""
    return {
        f"{name}_{option.name}": (
            get_type_hints(learner)[option.name],
            Field(option.default, description=option.metadata["description"], **option.metadata["limits"]),
        )
        for name, learner in LEARNERS.items()
        for option in learner_fields(learner)
    }


LEARNER: Any = Literal[tuple(LEARNERS)]
Complete = create_model(
    "Settings",
    __base__=Settings,
    __doc__=Settings.__doc__,
    learner=(LEARNER, Settings.model_fields["learner"]),
    **_options(),
)
"""The class of all settings: those above and those of each learner, whose names begin with the learner's."""


def load(argv: Sequence[str]) -> Settings:
    """Return the settings from `argv` and the environment.

    Raises
    ------
    ConfigError
        With one line for each wrong setting, which names its flag and its variable.
    """
    argv = arguments.with_equals_sign(arguments.join_repeated(argv, "--kafka-option"), "--java-options")
    validated = arguments.validate_arguments(argv, arguments.switches(Complete.model_fields))
    try:
        return CliApp.run(Complete, cli_args=validated)
    except ValidationError as error:
        lines = [arguments.error_message({**problem}, SECRETS) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from error
    except SettingsError as error:
        raise ConfigError(arguments.without_values(str(error))) from error
