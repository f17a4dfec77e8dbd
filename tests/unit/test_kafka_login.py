"""What librdkafka says about a login becomes a message with the setting, without secrets; its texts were observed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import producer.login
import streaming_regression.kafka.login

MODULES = [streaming_regression.kafka.login, producer.login]
URL = "https://login/token"
WHERE = f"the token endpoint {URL} (--kafka-oauth-token-url / KAFKA_OAUTH_TOKEN_URL)"
TOKENS = [
    ('{"error": "invalid_client", "error_description": "hunter2"}', "refused the login: invalid_client; check", False),
    ('{"error":"unauthorized_client"}', "refused the login: unauthorized_client; check", False),
    ('{"error":"invalid_scope"}', "--kafka-oauth-client-secret-file and --kafka-oauth-scope", False),
    ('{"error": "not found", "hint": "hunter2"}', "gives no token: its response is not a token", True),
    ('{"error": "temporarily_unavailable"}', "gives no token: its response is not a token", True),
    ("<html>hunter2</html>", "gives no token: its response is not a token", True),
    ("Failed to connect to localhost:9 after 0 ms: Could not connect to server", "Could not connect to server", True),
    ("Could not resolve host: no-such-host.invalid", "Could not resolve host: no-such-host.invalid", True),
    ("Empty reply from server", "gives no token: Empty reply from server", True),
    (
        "SSL certificate OpenSSL verify result: unable to get local issuer certificate (20)",
        "the TLS handshake failed: unable to get local issuer certificate (20); check that --kafka-oauth-ca-file (/ca)",
        False,
    ),
    ("TLS connect error: error:0A00010B:SSL routines::wrong version number", "the right one of http and https", False),
    ('Protocol "ftp" is disabled', "the right one of http and https", False),
]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("reason", "words", "passes"), TOKENS)
def test_why_there_is_no_token(module: ModuleType, reason: str, words: str, passes: bool) -> None:
    login = module.Login(oauth_token_url=URL, oauth_client_id="me", oauth_ca_file=Path("/ca"))
    message, may_pass = module.token_failure(f"Failed to acquire SASL OAUTHBEARER token: {reason}", login)
    assert message.startswith(WHERE)
    assert words in message
    assert may_pass == passes
    assert "hunter2" not in message


@pytest.mark.parametrize("module", MODULES)
def test_other_errors_are_none_of_a_token_or_of_a_client_certificate(module: ModuleType) -> None:
    for text in ("Connect to ipv4#127.0.0.1:9 failed: Connection refused", "certificate verify failed", ""):
        assert module.token_failure(text, module.Login()) is None
        assert module.certificate_failure(text, module.Login()) is None


@pytest.mark.parametrize("module", MODULES)
def test_the_broker_refuses_or_requires_a_client_certificate(module: ModuleType) -> None:
    for alert in ("bad certificate: SSL alert number 42", "certificate unknown", "certificate required", "unknown ca"):
        text = f"ssl://a:1/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert {alert}"
        message = module.certificate_failure(text, module.Login())
        assert message.startswith("the broker requires a client certificate: set --kafka-certificate-file / KAFKA_")
        message = module.certificate_failure(text, module.Login(certificate_file=Path("/x.crt")))
        assert "/x.crt must be signed by a CA that the brokers trust, and must not have expired" in message


CONFIGS = [
    ('Invalid value "hunter2" for configuration property "a.b"', 'Invalid value for configuration property "a.b"'),
    ('Invalid value "hun"ter2" for configuration property "a.b"', 'Invalid value for configuration property "a.b"'),
    ("Failed to create consumer: the plugin hunter2.so is missing", "the plugin ….so is missing"),
    ('No such configuration property: "a.b"', 'KAFKA_OPTIONS_FILE: No such configuration property: "a.b"'),
    (
        "Failed to create producer: ssl.ca.location failed: no certificate or crl found",
        "KAFKA_CA_FILE: /ca contains no",
    ),
    ("ssl.certificate.location failed: error:0A080009:SSL routines::PEM lib", "KAFKA_CERTIFICATE_FILE: /crt contains"),
    ("ssl.key.location failed: error:0A080009:SSL routines::PEM lib", "KAFKA_KEY_FILE: /key is not the private key"),
]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("text", "words"), CONFIGS)
def test_a_configuration_that_librdkafka_refuses_is_named_without_the_values(
    module: ModuleType, text: str, words: str
) -> None:
    login = module.Login(ca_file=Path("/ca"), certificate_file=Path("/crt"), key_file=Path("/key"))
    message = str(module.wrong_config(text, login, {"a.b": "hunter2", "c.d": "1", "sasl.password": "pa55word"}))
    assert words in message
    assert "hunter2" not in message
