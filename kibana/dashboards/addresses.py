"""Rules for addresses of servers and folders, and for the logins that belong to them. Each program has a copy."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from dashboards.names import distinct, parts


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
