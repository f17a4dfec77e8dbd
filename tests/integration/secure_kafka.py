"""A real Kafka with TLS, users and access rights, and one listener or mechanism for each kind of login."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trustme
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from embedded import Kafka, Tls, free_port
from embedded.jvm import Jvm
from tests.integration.token_endpoint import AUDIENCE, ISSUER

SECURITY = "org.apache.kafka.common.security"
SCRAM = f"{SECURITY}.scram.ScramLoginModule required"
ALLOWED_URLS = "org.apache.kafka.sasl.oauthbearer.allowed.urls"
AUTHORIZED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",  # all clients of the plaintext listener
}


class SecureKafka(Kafka):
    """A Kafka whose users have no rights at first.

    Attributes
    ----------
    secure_bootstrap : SASL_SSL with SCRAM-SHA-512, SCRAM-SHA-256, PLAIN and OAUTHBEARER; it asks for a certificate.
    mutual_bootstrap : SSL; it requires a client certificate of `authority`, whose common name is the user's name.
    unencrypted_bootstrap : SASL_PLAINTEXT with SCRAM-SHA-256.
    ipv6_bootstrap : PLAINTEXT at ::1.

    Parameters
    ----------
    authority
        The CA of all certificates.
    keys_url
        The public key of the OAuth server.
    plain_users
        Passwords of the users of PLAIN.
    """

    def __init__(self, authority: trustme.CA, keys_url: str, plain_users: dict[str, str]) -> None:
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        chain = "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems)
        key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        super().__init__(properties=AUTHORIZED, tls=Tls(chain, pkcs8), scram_users={"first": "unused"})
        self.mutual_bootstrap = f"127.0.0.1:{free_port()}"
        self.unencrypted_bootstrap = f"127.0.0.1:{free_port()}"
        self.ipv6_bootstrap = f"[::1]:{free_port()}"
        self._authority = authority.cert_pem.bytes().decode()
        self._keys_url = keys_url
        self._plain_users = plain_users

    def _broker_properties(self) -> dict[str, str]:
        properties = super()._broker_properties()
        users = "".join(f' user_{name}="{password}"' for name, password in self._plain_users.items())
        properties["listeners"] += f",MUTUAL://{self.mutual_bootstrap},IPV6://{self.ipv6_bootstrap}"
        properties["listeners"] += f",UNENCRYPTED://{self.unencrypted_bootstrap}"
        properties["listener.security.protocol.map"] += ",MUTUAL:SSL,IPV6:PLAINTEXT,UNENCRYPTED:SASL_PLAINTEXT"
        properties["listener.name.unencrypted.sasl.enabled.mechanisms"] = "SCRAM-SHA-256"
        properties["listener.name.unencrypted.scram-sha-256.sasl.jaas.config"] = f"{SCRAM};"
        properties["sasl.enabled.mechanisms"] = "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER"
        sasl = {
            "scram-sha-256.sasl.jaas.config": f"{SCRAM};",
            "plain.sasl.jaas.config": f"{SECURITY}.plain.PlainLoginModule required{users};",
            "oauthbearer.sasl.jaas.config": f"{SECURITY}.oauthbearer.OAuthBearerLoginModule required;",
            "oauthbearer.sasl.server.callback.handler.class": (
                f"{SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            "oauthbearer.sasl.oauthbearer.jwks.endpoint.url": self._keys_url,
            "oauthbearer.sasl.oauthbearer.expected.audience": AUDIENCE,
            "oauthbearer.sasl.oauthbearer.expected.issuer": ISSUER,
            "ssl.client.auth": "requested",
        }
        properties |= {f"listener.name.sasl_ssl.{name}": value for name, value in sasl.items()}
        for listener in ("sasl_ssl", "mutual"):
            properties[f"listener.name.{listener}.ssl.truststore.type"] = "PEM"
            properties[f"listener.name.{listener}.ssl.truststore.certificates"] = self._authority
        properties["listener.name.mutual.ssl.client.auth"] = "required"
        properties["ssl.principal.mapping.rules"] = "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT"
        return properties

    def _boot(self, jvm: Jvm, view: Any) -> tuple[Any, str]:
        view.System.setProperty(ALLOWED_URLS, self._keys_url)
        return super()._boot(jvm, view)


def add_user(broker: Kafka, name: str, password: str, mechanism: ScramMechanism = ScramMechanism.SCRAM_SHA_512) -> None:
    """Create the user `name`, who logs in with a SCRAM mechanism."""
    wanted = UserScramCredentialUpsertion(name, ScramCredentialInfo(mechanism, 4096), password.encode())
    admin = _admin(broker)
    for done in admin.alter_user_scram_credentials([wanted]).values():
        done.result()


def allow(broker: Kafka, user: str, topics: Iterable[str], operation: AclOperation = AclOperation.READ) -> None:
    """Give `user` the right to do `operation` on `topics`."""
    admin = _admin(broker)
    literal, allowed = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    rights = [
        AclBinding(ResourceType.TOPIC, topic, literal, f"User:{user}", "*", operation, allowed) for topic in topics
    ]
    for done in admin.create_acls(rights).values():
        done.result()


def _admin(broker: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
