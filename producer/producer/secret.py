"""Reads passwords and keys from files; errors name the file, never its content."""

from __future__ import annotations

from pathlib import Path

from producer.errors import ConfigError


def read(path: Path, setting: str) -> str:
    """Return the secret in `path`, without the line break that an editor or `echo` leaves at its end.

    Raises
    ------
    ConfigError
        When the file cannot be read or is empty; the message names `setting`.
    """
    flag = f"--{setting.replace('_', '-')} / {setting.upper()}: {path}"
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{flag} cannot be read ({error.strerror}): allow this user to read it") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{flag} is not valid UTF-8 text") from None  # the error contains the file's bytes
    if not text:
        raise ConfigError(f"{flag} is empty: it must contain the secret and nothing else")
    return text
