"""Validation of settings, one rule per kind of setting. The other programs have copies of these rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv6Address
from itertools import zip_longest
from pathlib import Path
from typing import Any

from streaming_regression.errors import ConfigError

LONGEST_WAIT_S = 365 * 86_400.0
SHOULD = {
    "float_parsing": "should be a number",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "should be a smaller number",
    "int_from_float": "should be a whole number",
}


def validate_arguments(argv: Sequence[str], switches: Collection[str]) -> list[str]:
    """Return the arguments without blanks around values; refuse a flag that is given twice, or without a value.

    For a flag given twice it would be unclear which value counts. In `--flag=value`, pydantic-settings does not see
    the text after a line break.

    Parameters
    ----------
    argv : Sequence[str]
        The program's arguments.
    switches : Collection[str]
        The names, without `--`, of the flags that take no value; each flag also has a form `--no-…`.

    Raises
    ------
    ConfigError
        For the first wrong flag.
    """
    arguments: list[str] = []
    seen: set[str] = set()
    for argument, following in zip_longest(argv, argv[1:]):
        flag, equals, value = argument.partition("=")
        arguments.append(f"{flag}={value.strip()}" if equals else argument.strip())
        if not flag.startswith("--"):
            continue
        given = value if equals else following
        if given is not None and not given.strip():
            raise ConfigError(f"{flag}: the value is empty; leave the flag out to use the default")
        name = flag[2:]
        name = name[3:] if name.startswith("no-") and name[3:] in switches else name
        if name in seen:
            raise ConfigError(f"--{name} is given twice: give it once")
        seen.add(name)
        try:
            stripped(value)
        except ValueError as error:
            raise ConfigError(f"--{name} / {name.replace('-', '_').upper()}: {error}") from None
    return arguments


def join_repeated(argv: Sequence[str], flag: str) -> list[str]:
    """Return the arguments with the values of a flag that may be given several times as one value, each on a line.

    Raises
    ------
    ConfigError
        For an empty value.
    """
    others: list[str] = []
    values: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name != flag:
            others.append(word)
            continue
        values.append((value if equals else next(words, "")).strip())
        if not values[-1]:
            raise ConfigError(f"{flag}: the value is empty; leave the flag out to use the default")
    return [*others, flag, "\n".join(values)] if values else others


def stripped(value: object) -> object:
    """Return a value without blanks around it; ValueError for text that is not UTF-8 or has control characters."""
    if not isinstance(value, str):
        return value
    value = value.strip()
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid UTF-8 text") from None
    if control := re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", value):
        raise ValueError(f"contains a line break or another control character, {control[0]!a}: remove it")
    return value


def setting(value: object, name: str, default: object) -> object:
    """Return a setting's value, `stripped`, or `default` for a blank; ValueError for a file that cannot be used.

    A setting whose name ends with `_option` has a value on each line.
    """
    if name.endswith("_option") and isinstance(value, str):
        value = "\n".join(str(stripped(line)) for line in value.strip().split("\n"))
    else:
        value = stripped(value)
    if value == "":
        return default
    if name.endswith("_file") and isinstance(value, str):
        try:
            Path(value).is_file()
        except OSError as error:  # the name is too long, or this user may not enter the folder
            raise ValueError(f"this file cannot be used: {error.strerror}") from error
    return value


def parts(value: str) -> tuple[str, ...]:
    """Return the parts of a list `a,b,c` without blanks around them; ValueError for an empty part."""
    found = tuple(part.strip() for part in value.split(","))
    if "" in found:
        raise ValueError(f"{value!r} has an empty part: remove the extra comma")
    return found


def distinct(found: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts of a list; ValueError for a part that is listed twice."""
    if repeated := sorted(part for part, times in Counter(found).items() if times > 1):
        raise ValueError(f"{', '.join(repeated)} {'is' if len(repeated) == 1 else 'are'} listed twice")
    return found


def names(value: str) -> tuple[str, ...]:
    r"""Return the names in a list `a,b,c` or, for `@FILE`, in the lines of a file.

    Blank lines of the file, and lines that begin with #, do not count. A backslash before an @ or # at the beginning of
    a name is not part of the name: `\@timestamp` is the name `@timestamp`.

    Raises
    ------
    ValueError
        If the file cannot be read or holds no names, or for an empty or repeated name.
    """
    found = _lines(value[1:]) if value.startswith("@") else parts(value)
    return distinct(tuple(re.sub(r"^\\(?=[@#])", "", name) for name in found))


def _lines(path: str) -> tuple[str, ...]:
    """Return the lines of a file that are names."""
    if not path:
        raise ValueError("'@' names no file: write @FILE (write \\@ for an @ that is part of a name)")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"file {path} is not valid UTF-8 text") from None
    except OSError as error:
        raise ValueError(
            f"file {path} cannot be read: {error.strerror} (write \\@ for an @ that is part of a name)"
        ) from error
    found = tuple(str(stripped(line)) for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not found:
        raise ValueError(f"file {path} holds no names: write one name a line")
    return found


def field_name(name: str) -> str:
    r"""Return the name or path of a JSON field; ValueError for a name that Elasticsearch or a list cannot hold.

    A backslash is allowed only in `\.`, a dot that is part of a key, and in `\[`, a bracket that begins no categories.
    """
    if ":" in name:
        raise ValueError(f"{name!r} looks like a name with a type: give only the name, every field is a number")
    if re.search(r"(?<!\\)\[[^\]]*\|", name):
        raise ValueError(
            f"{name!r} is not a valid field name: categories, field[a|b], can only be at the end of a feature; write "
            "\\[ for a bracket that is part of the name"
        )
    if not name or re.search(r'[,*"<>{}\x00-\x1f]|\\([^.\[]|$)|^\.|\.$|\.\.', name):
        raise ValueError(
            f'{name!r} is not a valid field name: it must not be empty, contain one of , * " < > {{ }}, begin or end '
            "with a dot, contain two dots in a row, or a backslash that is not before a dot or an opening bracket"
        )
    return name


def split_feature(feature: str) -> tuple[str, tuple[str, ...]]:
    r"""Return a feature's field and its declared categories; a feature that is a number has none.

    Examples
    --------
    >>> split_feature("carrier[UA|AA]")
    ('carrier', ('UA', 'AA'))
    >>> split_feature("Air temperature [K]")
    ('Air temperature [K]', ())
    >>> split_feature(r"speed \[m|s]")
    ('speed \\[m|s]', ())
    """
    match = re.fullmatch(r"(.*[^\\]|)\[((?:[^\\\[\]|]|\\.)*(?:\|(?:[^\\\[\]|]|\\.)*)+)\]", feature, re.DOTALL)
    if not match:
        return feature, ()
    return match[1].strip(), tuple(part.strip() for part in re.split(r"(?<!\\)\|", match[2]))


def column_names(features: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the model's columns: a field that is a number, or `field=category` for each category."""
    found: list[str] = []
    for field, categories in map(split_feature, features):
        found += [f"{field}={category}" for category in categories] or [field]
    return tuple(found)


def features(value: str) -> tuple[str, ...]:
    """Return the features in a list or file, each `field` or `field[category|category]`; ValueError for a wrong one."""
    found = names(value)
    if split := re.search(r"[^,]*(?<!\\)\[[^\[\]]*,[^\[\]]*\]", ",".join(found)):
        raise ValueError(
            f"{split[0]!r} has a comma between brackets, which separates features: write | between categories, or \\[ "
            "for a bracket that is part of a name"
        )
    for feature in found:
        field, categories = split_feature(feature)
        field_name(field)
        for category in categories:
            _check_category(feature, category)
        distinct(categories)
    distinct(tuple(split_feature(feature)[0] for feature in found))
    distinct(column_names(found))
    return found


def _check_category(feature: str, category: str) -> None:
    if not category:
        raise ValueError(f"{feature!r} has an empty category: remove the extra |")
    if re.search(r'[,*"<>{}\x00-\x1f]|\\([^\[\]|]|$)|^\.|\.$|\.\.', category):
        raise ValueError(
            f'{category!r} of {feature!r} is not a valid category: it must not contain one of , * " < > {{ }}, begin '
            "or end with a dot, contain two dots in a row, or a backslash that is not before [, ] or |"
        )


def topic(name: str) -> str:
    """Return the name of a topic; ValueError for a name that Kafka does not allow."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name in {".", ".."}:
        raise ValueError(f"{name!r} is not a valid topic name: use letters, digits, '.', '_' and '-', at most 249")
    return name


def prefix(value: str) -> str:
    """Return an index prefix; ValueError for a prefix that Elasticsearch does not allow."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,199}", value):
        raise ValueError(
            f"invalid index prefix {value!r}: use lower-case letters, digits, '.', '_' and '-', at most 200, and begin "
            "with a letter or digit"
        )
    return value


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


def error_message(error: Mapping[str, Any], secrets: Collection[str]) -> str:
    """Return the message for an error of pydantic; `secrets` are the settings whose values must not show."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    setting = f"--{name.replace('_', '-')} / {name.upper()}"
    if name in secrets:  # the value may be the secret itself
        return f"{setting}: there is no such file: name the file that holds the secret"
    if error["type"] == "path_not_file":
        return f"{setting}: there is no file {error['input']}"
    if error["type"] == "value_error":
        return f"{setting}: {message}"
    text = SHOULD.get(error["type"]) or message.removeprefix("Input ")
    return f"{setting}: {text} (found {error['input']!r})"


def without_values(text: str) -> str:
    """Return argparse's message without the values of unknown flags: they may be passwords."""
    head, found, words = text.partition("unrecognized arguments: ")
    kept: list[str] = []
    for before, word in zip(["", *words.split()], words.split(), strict=False):
        if word.startswith("-") or not before.startswith("-"):
            kept.append(word.partition("=")[0])
    return f"{head}{found}{' '.join(kept)} (see --help)"


def switches(fields: Mapping[str, Any]) -> list[str]:
    """Return the names of the flags that take no value, from the fields of a settings class."""
    return [name.replace("_", "-") for name, field in fields.items() if field.annotation is bool]
