"""The login to Kafka and the other options of its client. The producer has a copy of these rules."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from streaming_regression import secret
from streaming_regression.errors import ConfigError

OWN = {
    "bootstrap.servers": "bootstrap",
    "metadata.broker.list": "bootstrap",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "user",
    "sasl.password": "password_file",
    "ssl.ca.location": "ca_file",
    "ssl.ca.pem": "ca_file",
    "ssl.certificate.location": "certificate_file",
    "ssl.certificate.pem": "certificate_file",
    "ssl.key.location": "key_file",
    "ssl.key.pem": "key_file",
    "ssl.key.password": "key_password_file",
    "sasl.oauthbearer.method": "sasl_mechanism",
    "sasl.oauthbearer.token.endpoint.url": "oauth_token_url",
    "sasl.oauthbearer.client.id": "oauth_client_id",
    "sasl.oauthbearer.client.credentials.client.id": "oauth_client_id",
    "sasl.oauthbearer.client.secret": "oauth_client_secret_file",
    "sasl.oauthbearer.client.credentials.client.secret": "oauth_client_secret_file",
    "sasl.oauthbearer.scope": "oauth_scope",
    "https.ca.location": "oauth_ca_file",
    "https.ca.pem": "oauth_ca_file",
}
"""Options of librdkafka that have a setting of their own."""
READING = "the program must read each record exactly once"
SENDING = "the program must send each record exactly once"
PROGRAM = "it is for programs that use librdkafka"
FIXED = {
    "group.id": READING,
    "group.instance.id": READING,
    "group.protocol": READING,
    "enable.auto.commit": READING,
    "auto.commit.enable": READING,
    "auto.commit.interval.ms": READING,
    "enable.auto.offset.store": READING,
    "enable.partition.eof": READING,
    "isolation.level": READING,
    "auto.offset.reset": READING,
    "max.poll.interval.ms": READING,
    "transactional.id": SENDING,
    "enable.idempotence": SENDING,
    "enable.gapless.guarantee": SENDING,
    "acks": SENDING,
    "request.required.acks": SENDING,
    "message.timeout.ms": SENDING,
    "delivery.timeout.ms": SENDING,
    "retries": SENDING,
    "message.send.max.retries": SENDING,
    "max.in.flight": SENDING,
    "max.in.flight.requests.per.connection": SENDING,
    "debug": "its messages may contain secrets",
    "log_level": "use --log-level",
    "logger": PROGRAM,
    "enabled_events": PROGRAM,
    "plugin.library.paths": PROGRAM,
    "default.topic.config": PROGRAM,
    "on_commit": PROGRAM,
    "on_delivery": PROGRAM,
}
"""Options of librdkafka that must not change, with the reason."""
BROKEN = "handshake failed: Local: "
"""librdkafka's words, after which follows why the connection broke during a login; it reports this as a refusal."""
NO_TOKEN = "Failed to acquire SASL OAUTHBEARER token: "  # noqa: S105
"""librdkafka's words before the reason."""
REFUSED = re.compile(
    r"\b(invalid_(client|grant|request|scope)|unauthorized_client|unsupported_grant_type|access_denied)\b"
)
"""Errors of RFC 6749, section 5.2."""
WRONG_TLS = ("certificate", "wrong version number", "trust anchors", "Protocol ")
"""Parts of the other reasons that no later attempt removes."""


@dataclass(frozen=True, slots=True)
class Login:
    """The settings of the login, by their names without `kafka_`. It names files with secrets, never the secrets."""

    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None
    oauth_token_url: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret_file: Path | None = None
    oauth_scope: str | None = None
    oauth_ca_file: Path | None = None
    options_file: Path | None = None

    @property
    def oauth(self) -> bool:
        """Whether the login is a token of an OAuth server."""
        return self.security_protocol.startswith("SASL") and self.sasl_mechanism == "OAUTHBEARER"

    @property
    def password(self) -> bool:
        """Whether the login is a user with a password."""
        return self.security_protocol.startswith("SASL") and not self.oauth


def login(settings: object) -> Login:
    """Return the login that a program's settings describe."""
    return Login(**{field.name: getattr(settings, f"kafka_{field.name}") for field in fields(Login)})


def check_login(settings: object) -> None:
    """Raise ValueError, with a line for each setting that does not go with the others."""
    lines = [f"{flag(name)}: {text}" for name, text in _clashes(login(settings), bool(settings.kafka_option))]  # type: ignore[attr-defined]
    if lines:
        raise ValueError("\n".join(lines))


def flag(name: str) -> str:
    """Return a setting's name in messages, such as `--kafka-user / KAFKA_USER`."""
    return f"--kafka-{name.replace('_', '-')} / KAFKA_{name.upper()}"


def _clashes(given: Login, option: bool) -> Iterator[tuple[str, str]]:
    if given.certificate_file and not given.key_file:
        yield "key_file", "not set: --kafka-certificate-file needs the file with the certificate's private key"
    if given.key_file and not given.certificate_file:
        yield "certificate_file", "not set: --kafka-key-file needs the file with the key's certificate"
    if given.key_password_file and not given.key_file:
        yield "key_password_file", "is the password of --kafka-key-file, which is not set: set both, or leave it out"
    yield from _unused(given)
    oauth = {name: getattr(given, name) for name in Login.__slots__ if name.startswith("oauth_")}
    if not given.oauth:
        for name in [name for name, value in oauth.items() if value][:1]:
            yield name, "needs --kafka-sasl-mechanism OAUTHBEARER and --kafka-security-protocol SASL_SSL"
        return
    for name in [name for name in ("user", "password_file") if getattr(given, name)]:
        yield name, "is not used by OAUTHBEARER, which logs in with --kafka-oauth-client-id: leave it out"
    if not option and not given.options_file:  # with options there are other ways to get a token
        needed = {"token_url": "the token endpoint", "client_id": "a client id", "client_secret_file": "its secret"}
        for name, thing in needed.items():
            if not oauth[f"oauth_{name}"]:
                yield f"oauth_{name}", f"not set: OAUTHBEARER needs {thing}"
    if given.oauth_ca_file and not (given.oauth_token_url or "").startswith("https:"):
        yield "oauth_ca_file", "needs https: use https in --kafka-oauth-token-url, or leave the CA file out"


def _unused(given: Login) -> Iterator[tuple[str, str]]:
    """Yield the settings that the security protocol does not use: they would be ignored without a word."""
    protocol = given.security_protocol
    if given.certificate_file and not protocol.endswith("SSL"):
        yield "certificate_file", f"needs --kafka-security-protocol SSL or SASL_SSL (found {protocol})"
    name = "password_file" if given.password_file else "user"
    if given.certificate_file and protocol == "SSL" and getattr(given, name):
        yield name, "with --kafka-security-protocol SSL the certificate is the login: leave it out, or use SASL_SSL"
    elif not protocol.startswith("SASL") and getattr(given, name):
        yield name, f"needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT (found {protocol})"
    if given.ca_file and not protocol.endswith("SSL"):
        yield "ca_file", f"needs --kafka-security-protocol SSL or SASL_SSL (found {protocol})"


def token_url(value: str) -> str:
    """Return the URL of a token endpoint; ValueError for an invalid URL."""
    if "@" in value:
        raise ValueError("a URL must not contain a password: use --kafka-oauth-client-secret-file")
    if not re.fullmatch(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s#]*)?", value):
        raise ValueError(f"{value!r} is not http://host:port/path or https://host/path")
    return value


def options(lines: str) -> dict[str, str]:
    """Return the options in lines `name=value`; ValueError, without any value, for a wrong line.

    Blank lines, and lines that begin with #, are comments.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(lines.split("\n"), 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            if equals and not name:
                raise ValueError(f"line {number} has no name before the =: write NAME=VALUE")
            continue
        fixed = name in FIXED or name.endswith("_cb")
        if not equals or not re.fullmatch(r"[a-z][a-z0-9._]*", name) or not ("." in name or fixed):
            raise ValueError(f"line {number} is not NAME=VALUE with the name of an option of librdkafka")
        if name in found:
            raise ValueError(f"{name} is given twice: give it once")
        if name in OWN:
            raise ValueError(f"{name} has a setting of its own: use --kafka-{OWN[name].replace('_', '-')}")
        if fixed:
            raise ValueError(f"{name} cannot be changed: {FIXED.get(name, PROGRAM)}")
        found[name] = value
    return found


def client_config(given: Login, option: str) -> dict[str, Any]:
    """Return librdkafka's configuration of the login and the free options; it contains secrets, so never show it.

    Raises
    ------
    ConfigError
        When a file cannot be read, or the options file has a wrong line.
    """
    config: dict[str, Any] = {"security.protocol": given.security_protocol}
    paths = {
        "ssl.ca.location": given.ca_file,
        "ssl.certificate.location": given.certificate_file,
        "ssl.key.location": given.key_file,
    }
    config |= {name: str(path) for name, path in paths.items() if path}
    if given.key_password_file:
        config["ssl.key.password"] = secret.read(given.key_password_file, "kafka_key_password_file")
    if given.password and given.password_file:
        config["sasl.mechanism"] = given.sasl_mechanism
        config["sasl.username"] = given.user
        config["sasl.password"] = secret.read(given.password_file, "kafka_password_file")
    if given.oauth:
        config |= {"sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc"}
        texts = {
            "sasl.oauthbearer.token.endpoint.url": given.oauth_token_url,
            "sasl.oauthbearer.client.id": given.oauth_client_id,
            "sasl.oauthbearer.scope": given.oauth_scope,
        }
        config |= {name: text for name, text in texts.items() if text}
        if authority := given.oauth_ca_file or _system_authorities():
            config["https.ca.location"] = str(authority)
        if given.oauth_client_secret_file:
            found = secret.read(given.oauth_client_secret_file, "kafka_oauth_client_secret_file")
            config["sasl.oauthbearer.client.secret"] = found
    return config | free_options(given, option)


def _system_authorities() -> str | None:
    """Return the file with the system's CAs; the client would look for it only where Red Hat's systems have it."""
    places = (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem")
    return next((place for place in places if place and Path(place).is_file()), None)


def free_options(given: Login, option: str) -> dict[str, str]:
    """Return the options of `--kafka-option` and of the options file; ConfigError for a wrong one."""
    found = options(option)
    if not given.options_file:
        return found
    name = f"{flag('options_file')}: {given.options_file}"
    try:
        more = options(secret.read(given.options_file, "kafka_options_file"))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    if twice := sorted(found.keys() & more.keys()):
        raise ConfigError(f"{name}: {twice[0]} is also given by --kafka-option: give it once")
    return found | more


def wrong_config(text: str, given: Login, config: Mapping[str, Any]) -> ConfigError:
    """Return the error for a configuration that librdkafka refuses with `text`, without the values of options."""
    for name, path in (("ca_file", given.ca_file), ("certificate_file", given.certificate_file)):
        if {"ca_file": "ssl.ca.location", "certificate_file": "ssl.certificate.location"}[name] in text:
            return ConfigError(f"{flag(name)}: {path} contains no readable certificate in PEM format")
    if "ssl.key.location" in text or "rivate key" in text:
        return ConfigError(
            f"{flag('key_file')}: {given.key_file} is not the private key of --kafka-certificate-file in PEM format, "
            f"or {flag('key_password_file')} is not its password"
        )
    text = re.sub(r'Invalid value ".*" for', "Invalid value for", text.strip(), flags=re.DOTALL)
    for value in config.values():
        if isinstance(value, str) and len(value) > 3:
            text = text.replace(value, "…")
    return ConfigError(f"{flag('option')}, {flag('options_file')}: {text}")


def certificate_failure(text: str, given: Login) -> str | None:
    """Return the message if `text` is librdkafka's about a client certificate that the broker refuses or requires."""
    if "alert" not in text or not ("certificate" in text or "unknown ca" in text):
        return None
    if not given.certificate_file:
        return f"the broker requires a client certificate: set {flag('certificate_file')} and {flag('key_file')}"
    return (
        f"the broker refused this client's certificate: {flag('certificate_file')}: {given.certificate_file} must be "
        "signed by a CA that the brokers trust, and must not have expired"
    )


def token_failure(text: str, given: Login) -> tuple[str, bool] | None:
    """Return the message if `text` is librdkafka's about a token that it did not get, and whether the cause may pass.

    Of a response of the endpoint the message contains at most the error's name.
    """
    _, found, reason = text.partition(NO_TOKEN)
    if not found:
        return None
    where = f"the token endpoint {given.oauth_token_url} ({flag('oauth_token_url')})"
    if error := REFUSED.search(reason):
        client = f"--kafka-oauth-client-id ({given.oauth_client_id}), --kafka-oauth-client-secret-file"
        return f"{where} refused the login: {error[0]}; check {client} and --kafka-oauth-scope", False
    if any(part in reason for part in WRONG_TLS):
        ca = given.oauth_ca_file or "not set"
        reason = reason.replace("SSL certificate OpenSSL verify result: ", "")
        return (
            f"{where}: the TLS handshake failed: {reason}; check that --kafka-oauth-ca-file ({ca}) is the CA of its "
            "certificate, and that the URL begins with the right one of http and https",
            False,
        )
    if reason.startswith(("{", "<")):
        reason = "its response is not a token"
    return f"{where} gives no token: {reason}", True
