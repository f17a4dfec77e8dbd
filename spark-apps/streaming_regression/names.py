"""Rules for names of fields, topics and indices, and for lists of names. Each program has a copy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streaming_regression.arguments import stripped


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
