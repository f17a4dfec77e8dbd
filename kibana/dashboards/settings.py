"""All settings. Each has a flag `--kibana-url`, a variable `KIBANA_URL` and a default; the flag wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import (
    Field,
    FilePath,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from dashboards import addresses, arguments, names
from dashboards.errors import ConfigError
from dashboards.panels import Names

SECRETS = frozenset(
    f"{server}_{kind}_file"
    for server in ("kibana", "elasticsearch")
    for kind in ("password", "api_key", "token", "key_password")
)
CONFIG = SettingsConfigDict(
    frozen=True,
    allow_inf_nan=False,
    env_ignore_empty=True,
    extra="ignore",
    cli_kebab_case=True,
    cli_implicit_flags=True,
    cli_hide_none_type=True,
    cli_parse_none_str="<none>",  # the default, "None", may be a name
    cli_avoid_json=True,
    cli_show_env_vars=True,
    cli_exit_on_error=False,
)


class WithNames(BaseSettings):
    """The names that differ between installations."""

    model_config = CONFIG

    features: str = Field(
        "dep_delay,distance,air_time",
        description="the model's features, a,b,c[x|y], as the streaming regression has them; @FILE reads them from a "
        "file, one a line",
    )
    label: str = Field("arr_delay", description="name of the field that is predicted")
    index_prefix: str = Field("spark", description="indices are named PREFIX-points-DATE and so on")
    kafka_train_topic: str = Field("train", description="topic that the model learns from")
    kafka_test_topic: str = Field("test", description="topic that the model only predicts")

    @property
    def names(self) -> Names:
        """The names for the panels."""
        return Names(
            tuple(self.features.split(",")),
            self.label,
            self.index_prefix,
            self.kafka_train_topic,
            self.kafka_test_topic,
        )

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        return arguments.setting(value, name, cls.model_fields[name].default)

    @field_validator("features")
    @classmethod
    def _names(cls, value: str) -> str:
        return ",".join(names.features(value))

    @field_validator("label")
    @classmethod
    def _name(cls, value: str) -> str:
        return names.field_name(value)

    @field_validator("kafka_train_topic", "kafka_test_topic")
    @classmethod
    def _topic(cls, value: str) -> str:
        return names.topic(value)

    @field_validator("index_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        return names.prefix(value)

    @model_validator(mode="after")
    def _differ(self) -> WithNames:
        if self.label in self.names.fields:
            raise ValueError(f"--label {self.label} is also one of the --features: a label cannot predict itself")
        if self.kafka_train_topic == self.kafka_test_topic:
            raise ValueError("--kafka-train-topic and --kafka-test-topic are the same: use two different topics")
        return self


class Build(WithNames):
    """Write the dashboards as a file that Kibana imports."""

    model_config = CONFIG | SettingsConfigDict(cli_prog_name="python -m dashboards build")

    dashboards_file: Path = Field(Path("kibana/dashboards.ndjson"), description="file to write; - for standard output")


class WithElasticsearch(WithNames):
    """The connection to Elasticsearch."""

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

    @field_validator("elasticsearch_url")
    @classmethod
    def _nodes(cls, value: str) -> str:
        return addresses.urls(value, "elasticsearch")

    @model_validator(mode="after")
    def _login(self) -> WithElasticsearch:
        addresses.check_login(self, "elasticsearch")
        return self


class Load(WithElasticsearch):
    """Install missing index templates, and import the dashboards into Kibana; it is safe to run this again."""

    model_config = CONFIG | SettingsConfigDict(cli_prog_name="python -m dashboards load")

    kibana_url: str = Field(
        "http://localhost:5601",
        description="Kibana, http[s]://host[:port][/base-path]; without a port, https means 443 and http 80",
    )
    kibana_ca_file: FilePath | None = Field(None, description="PEM file with the CA of Kibana's certificate")
    kibana_user: str | None = Field(None, description="user name")
    kibana_password_file: FilePath | None = Field(None, description="file with that user's password")
    kibana_api_key_file: FilePath | None = Field(None, description="file with an API key, instead of a user")
    kibana_token_file: FilePath | None = Field(None, description="file with a bearer token, instead of a user")
    kibana_space: str | None = Field(None, description="id of the space to import into; not set: the default space")
    dashboards_file: FilePath | None = Field(
        None, description="NDJSON file to import instead of the built-in dashboards"
    )
    dry_run: bool = Field(False, description="log what would be installed, without installing it")
    server_timeout_s: NonNegativeFloat = Field(
        300.0,
        le=arguments.LONGEST_WAIT_S,
        description="seconds to wait for a server that is not ready; then end with exit code 3",
    )
    request_timeout_s: PositiveFloat = Field(
        60.0, le=86_400.0, description="seconds to wait for the response to a request"
    )

    @field_validator("kibana_url")
    @classmethod
    def _kibana(cls, value: str) -> str:
        if "," in value:
            raise ValueError("must be a single URL, not a list")
        return addresses.urls(value, "kibana").rstrip("/")

    @field_validator("kibana_space")
    @classmethod
    def _space(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9_-]+", value):
            raise ValueError(
                f"{value!r} is not a space id: use lower-case letters, digits, '_' and '-' (not its display name)"
            )
        return value

    @model_validator(mode="after")
    def _kibana_login(self) -> Load:
        addresses.check_login(self, "kibana")
        return self


class Serve(WithElasticsearch):
    """Serve the dashboards as a live page."""

    model_config = CONFIG | SettingsConfigDict(cli_prog_name="python -m dashboards serve")

    page_host: str = Field(
        "127.0.0.1",
        description="address to listen on; the page has no login: anyone who can reach the address can see it",
    )
    page_port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0: any free port")

    @field_validator("page_host")
    @classmethod
    def _host(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", value):
            raise ValueError(f"{value!r} is not a host name or an address such as localhost, 127.0.0.1 or ::1")
        return value


AnySettings = TypeVar("AnySettings", bound=WithNames)


def load(settings: type[AnySettings], argv: Sequence[str]) -> AnySettings:
    """Return a command's settings from `argv` and the environment.

    Raises
    ------
    ConfigError
        With one line for each wrong setting, which names its flag and its variable.
    """
    validated = arguments.validate_arguments(argv, arguments.switches(settings.model_fields))
    try:
        return CliApp.run(settings, cli_args=validated)
    except ValidationError as error:
        lines = [arguments.error_message({**problem}, SECRETS) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from error
    except SettingsError as error:
        raise ConfigError(arguments.without_values(str(error))) from error
