"""How a program reads its arguments and variables, and its messages about wrong ones. Each program has a copy."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
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


def switches(fields: Mapping[str, Any]) -> list[str]:
    """Return the names of the flags that take no value, from the fields of a settings class."""
    return [name.replace("_", "-") for name, field in fields.items() if field.annotation is bool]


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
