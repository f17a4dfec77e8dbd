"""A real Kafka with TLS, users and access rights."""

from __future__ import annotations

from collections.abc import Iterable

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

from embedded import Kafka, Tls

AUTHORIZED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",  # all clients of the plaintext listener
}


def secure_kafka(authority: trustme.CA) -> Kafka:
    """Return a Kafka, not started, whose listener `secure_bootstrap` uses SASL_SSL; users have no rights at first."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain = "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems)
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Kafka(properties=AUTHORIZED, tls=Tls(chain, pkcs8), scram_users={"first": "unused"})


def add_user(broker: Kafka, name: str, password: str) -> None:
    """Create the user `name`, who logs in with SCRAM-SHA-512."""
    wanted = UserScramCredentialUpsertion(
        name, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password.encode()
    )
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
