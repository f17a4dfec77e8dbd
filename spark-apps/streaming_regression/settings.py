"""The settings. Each has a flag `--kafka-bootstrap`, a variable `KAFKA_BOOTSTRAP` and a default; the flag wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_type_hints

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import CliApp, SettingsError

from streaming_regression import addresses, arguments, formats, names, registry
from streaming_regression.drift import LEAST_GROWTH
from streaming_regression.errors import ConfigError
from streaming_regression.learners import LEARNERS, LIMIT
from streaming_regression.learners import options as learner_fields
from streaming_regression.records import Fields
from streaming_regression.schema import Storage
from streaming_regression.server_settings import SECRETS, ServerSettings


def split(value: str) -> tuple[str, ...]:
    """Return the parts of a setting that is a list, `a,b,c`."""
    return tuple(part.strip() for part in value.split(","))


DAY_S = 86_400.0
JAVA_OPTIONS = re.compile(r"\s*(-([^X\s]\S*|X[^m\s]\S*|Xm[^x\s]\S*)(\s+|$))*")


class Settings(ServerSettings):
    """An online linear regression over two Kafka topics: learns from one, predicts both, writes to Elasticsearch.

    Each setting is a flag or the environment variable in brackets; a flag wins. Passwords are read from files only.
    """

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
        layout, weights = self.fields.layout, len(self.initial) - 1
        if weights != len(layout.columns):
            wanted = f"{len(layout.fields)} --features"
            if layout.categories:
                wanted += f" with {len(layout.columns)} numbers and categories together"
            raise ValueError(f"--initial-weights has {weights} numbers for {wanted}: give one for each")
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
