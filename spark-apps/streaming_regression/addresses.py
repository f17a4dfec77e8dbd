"""Rules for addresses of servers and folders, and for the logins that belong to them. Each program has a copy."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Any

from streaming_regression.names import distinct, parts


def _is_address(address: str) -> bool:
    """Return whether `address` is host:port; ValueError for an IPv6 address without brackets."""
    host, _, port = address.rpartition(":")
    if ":" in host and re.fullmatch(r"[0-9A-Fa-f:.%]+", address):
        raise ValueError(f"{address!r}: write an IPv6 address in brackets, such as [::1]:port")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        return False
    if not host.startswith("["):
        return bool(re.fullmatch(r"[A-Za-z0-9._-]+", host))
    try:
        return host.endswith("]") and "%" not in host and bool(IPv6Address(host[1:-1]))
    except ValueError:
        return False


def brokers(value: str) -> str:
    """Return a list of brokers in the form that Kafka's clients take; ValueError for an invalid address."""
    if "@" in value:
        raise ValueError("an address must not contain a password: use --kafka-user and --kafka-password-file")
    found = distinct(parts(value))
    for broker in found:
        if not _is_address(broker):
            raise ValueError(f"{broker!r} is not host:port (a port is 1 to 65535)")
    return ",".join(found)


def urls(value: str, server: str) -> str:
    """Return a list of URLs, each with its port; ValueError for an invalid URL. A port left out is 443 or 80.

    The settings' names in messages begin with `server`.
    """
    if "@" in value:
        raise ValueError(f"a URL must not contain a password: use --{server}-user and --{server}-password-file")
    found = distinct(parts(value))
    whole = []
    for url in found:
        match = re.fullmatch(r"(https?)://([^/?#\s]+)(/[^\s?#]*)?", url)
        address = match[2] if match else ""
        if match and ":" not in address.rpartition("]")[2]:
            address += ":443" if match[1] == "https" else ":80"
        if not match or not _is_address(address):
            raise ValueError(f"{url!r} is not http://host:port or https://host:port (a port is 1 to 65535)")
        whole.append(f"{match[1]}://{address}{match[3] or ''}")
    return ",".join(distinct(tuple(whole)))


def check_login(settings: object, server: str) -> None:
    """Raise ValueError if the settings of a login do not go together; their names begin with `server`."""
    names = ("user", "password_file", "api_key_file", "token_file", "certificate_file", "key_file", "key_password_file")
    given = {name: getattr(settings, f"{server}_{name}", None) for name in names}
    flag = f"--{server.replace('_', '-')}"
    https = all(url.startswith("https:") for url in getattr(settings, f"{server}_url").split(","))
    if getattr(settings, f"{server}_ca_file") and not https:
        raise ValueError(f"{flag}-ca-file needs https: use https in {flag}-url, or leave the CA file out")
    if given["certificate_file"] and not https:
        raise ValueError(f"{flag}-certificate-file needs https: use https in {flag}-url, or leave the certificate out")
    for first, second in (("user", "password_file"), ("certificate_file", "key_file")):
        if bool(given[first]) != bool(given[second]):
            both = f"{flag}-{first} and {flag}-{second}".replace("_", "-")
            raise ValueError(f"{both} must be given together: one is missing")
    if given["key_password_file"] and not given["key_file"]:
        raise ValueError(f"{flag}-key-password-file is the password of {flag}-key-file, which is not set")
    logins = [f"{flag}-{name}".replace("_", "-") for name in ("token_file", "api_key_file", "user") if given[name]]
    if len(logins) > 1:
        raise ValueError(f"{logins[0]} and {logins[1]} cannot be given together: use one of them")


def check_registry(settings: Any) -> None:  # noqa: ANN401 - each program has its own class of settings
    """Raise ValueError if the settings of the schema registry do not go together."""
    given = [name for name in vars(settings) if name.startswith("schema_registry_") and vars(settings)[name]]
    if settings.value_format == "json":
        if given:
            flag = f"--{given[0].replace('_', '-')}"
            raise ValueError(f"{flag} needs --value-format json-schema-registry or avro: add this setting")
        return
    if not settings.schema_registry_url:
        raise ValueError(
            f"--value-format {settings.value_format} needs --schema-registry-url, the address of the schema registry"
        )
    check_login(settings, "schema_registry")


OBJECT_STORES = frozenset(["s3a", "s3n", "s3", "gs", "abfs", "abfss", "wasb", "wasbs", "oss", "cosn", "obs"])
AUTHORITY = r"([A-Za-z0-9._~$-]+@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"


def checkpoint(value: str) -> str:
    """Return a folder or URI that Hadoop's `Path` accepts and can create folders in; ValueError for any other value."""
    before, colon, path = value.partition(":")
    if value.startswith("~"):
        raise ValueError(f"{value!r}: ~ has a meaning only in a shell: write the full path of the folder")
    if value.startswith("//"):
        raise ValueError(f"{value!r} begins with two slashes: use a folder, /folder, or a URI, hdfs://host:port/folder")
    if not colon or "/" in before:
        return value  # a folder; a colon after the first slash is part of a name
    if re.fullmatch(r"[A-Za-z]", before):
        raise ValueError(f"{value!r} looks like a Windows path: write the folder as file:///{before.lower()}/folder")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", before) or not path.startswith("/"):
        raise ValueError(
            f"{value!r} is neither a folder nor a URI such as s3a://bucket/folder (a colon before the first slash ends "
            f"the scheme of a URI); for a folder with this name write ./{value}"
        )
    return _uri(value, before.lower(), path)


def _uri(value: str, scheme: str, path: str) -> str:
    authority = path[2:].partition("/")[0] if path.startswith("//") else ""
    if ":" in authority.rpartition("@")[0]:
        raise ValueError("a URI must not contain a password: pass it to Hadoop in a file, by spark.hadoop.fs.…")
    if scheme in {"http", "https", "ftp", "sftp"}:
        raise ValueError(f"{value!r}: a checkpoint cannot be written over {scheme}: use s3a://, hdfs:// or a folder")
    if scheme == "file" and authority:
        raise ValueError(f"{value!r}: a file: URI must not name a host: write file:///{authority}/…")
    if not authority and (scheme in OBJECT_STORES or path == "//"):
        where = "" if scheme == "file" else "bucket" if scheme in OBJECT_STORES else "host"
        raise ValueError(f"{value!r} does not name a folder: write {scheme}://{where}/folder")
    port = authority.rpartition(":")[2] if authority[-1:].isdigit() and ":" in authority else "1"
    if authority and not (re.fullmatch(AUTHORITY, authority) and 0 < int(port) < 65536):
        raise ValueError(f"{value!r}: {authority!r} is not a host, bucket or host:port")
    return value
