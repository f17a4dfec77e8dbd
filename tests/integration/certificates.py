"""Client certificates for tests, with encrypted keys."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)


def write(certificate: trustme.LeafCert, folder: Path, name: str, password: str) -> dict[str, str]:
    """Write NAME.crt and NAME.key, encrypted with `password`; return their paths by file name."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    contents = {
        f"{name}.crt": b"".join(pem.bytes() for pem in certificate.cert_chain_pems),
        f"{name}.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())),
    }
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return {file: str(folder / file) for file in contents}
