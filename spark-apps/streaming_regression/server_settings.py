"""The settings of the servers: Kafka and its topics, Elasticsearch, and the schema registry."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FilePath, PositiveInt, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streaming_regression import addresses, arguments, formats, names
from streaming_regression.kafka.login import check_login, login, options, token_url

SECRETS = frozenset(
    ["kafka_password_file", "kafka_key_password_file", "kafka_oauth_client_secret_file", "kafka_options_file"]
    + [f"elasticsearch_{kind}_file" for kind in ("password", "api_key", "token", "key_password")]
    + ["schema_registry_password_file", "schema_registry_token_file"]
)
"""Settings whose value may be the secret itself, by mistake."""


class ServerSettings(BaseSettings):
    """The settings of the servers and topics, and their checks. `settings.Settings` adds all other settings."""

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

    @property
    def topics(self) -> dict[str, str]:
        """The topics by their role."""
        return {"train": self.kafka_train_topic, "test": self.kafka_test_topic}

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

    @model_validator(mode="after")
    def _servers(self) -> ServerSettings:
        if self.kafka_train_topic == self.kafka_test_topic:
            raise ValueError("--kafka-train-topic and --kafka-test-topic are the same: use two different topics")
        addresses.check_login(self, "elasticsearch")
        addresses.check_registry(self)
        if login(self).password and not (self.kafka_user and self.kafka_password_file):
            protocol = self.kafka_security_protocol
            raise ValueError(f"--kafka-security-protocol {protocol} needs --kafka-user and --kafka-password-file")
        check_login(self)
        return self
