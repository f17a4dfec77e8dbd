"""All programs apply the same rules to settings of the same kind, with the same messages."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic_settings import BaseSettings

import dashboards.addresses
import dashboards.arguments
import dashboards.names
import dashboards.settings
import demo.__main__
import embedded.__main__
import producer.addresses
import producer.arguments
import producer.login
import producer.names
import producer.secret
import producer.settings
import streaming_regression.addresses
import streaming_regression.arguments
import streaming_regression.kafka.login
import streaming_regression.names
import streaming_regression.secret
import streaming_regression.settings
from dashboards.errors import ConfigError as DashboardsConfigError
from producer.errors import ConfigError as ProducerConfigError
from streaming_regression.errors import ConfigError as StreamConfigError

CONFIG_ERRORS = (StreamConfigError, ProducerConfigError, DashboardsConfigError)
RULES = [
    [getattr(program, name) for name in ("arguments", "names", "addresses")]
    for program in (streaming_regression, producer, dashboards)
]
PROGRAMS: dict[str, tuple[type[BaseSettings], Callable[[Sequence[str]], Any]]] = {
    "app": (streaming_regression.settings.Complete, streaming_regression.settings.load),
    "producer": (producer.settings.Settings, producer.settings.load),
    **{
        kind.__name__.lower(): (kind, partial(dashboards.settings.load, kind))
        for kind in (dashboards.settings.Load, dashboards.settings.Serve, dashboards.settings.Build)
    },
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without settings."""
    for kind, _ in PROGRAMS.values():
        for name in kind.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def having(*names: str) -> list[str]:
    """The programs that have all these settings."""
    return [program for program, (kind, _) in PROGRAMS.items() if {*names} <= kind.model_fields.keys()]


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def read(program: str, *argv: str) -> Any:
    return PROGRAMS[program][1](argv)


def fault(program: str, *argv: str) -> str:
    with pytest.raises(CONFIG_ERRORS) as error:
        read(program, *argv)
    assert error.value.exit_code == 2  # type: ignore[attr-defined]  # each of CONFIG_ERRORS has it
    return str(error.value)


def functions(*modules: ModuleType) -> dict[str, str]:
    """The source text of each function of the modules."""
    return {
        name: inspect.getsource(function)
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    }


def test_the_programs_share_no_code_but_have_the_same_rules() -> None:
    """Functions of the same name in two programs have the same source text."""
    first, second, third = (functions(*modules) for modules in RULES)
    for program, other in ((first, second), (first, third), (second, third)):
        shared = program.keys() & other.keys()
        assert {name: program[name] for name in shared} == {name: other[name] for name in shared}
        assert {
            "validate_arguments",
            "setting",
            "parts",
            "field_name",
            "names",
            "topic",
            "error_message",
            "without_values",
        } <= shared


def test_app_and_producer_log_in_to_kafka_alike() -> None:
    """The two modules differ only in their imports and in the name of the other program."""
    app, other = streaming_regression.kafka.login, producer.login
    assert functions(app) == functions(other)
    assert functions(streaming_regression.secret) == functions(producer.secret)
    for name in ("OWN", "FIXED", "BROKEN", "NO_TOKEN", "REFUSED", "WRONG_TLS"):
        assert getattr(app, name) == getattr(other, name)
    assert inspect.getsource(app.Login) == inspect.getsource(other.Login)
    fields = [
        {name: repr(field) for name, field in kind.model_fields.items() if name.startswith("kafka_o") or "key" in name}
        for kind in (streaming_regression.settings.Settings, producer.settings.Settings)
    ]
    assert {name: field for name, field in fields[0].items() if name in fields[1]} == fields[1]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "argv",
    [
        ["--features", "a", "--features", "b"],
        ["--features=a", "--features", "b"],
        ["--features", "a", "--label", "z", "--features=a"],
        ["--features", "a,b,c", "--log-level", "INFO", "--features", "a,b,c"],
    ],
)
def test_a_flag_given_twice_is_refused(program: str, argv: list[str]) -> None:
    assert fault(program, *argv) == "--features is given twice: give it once"


@pytest.mark.parametrize(("program", "name"), [("app", "available-now"), ("app", "replace-run"), ("load", "dry-run")])
def test_a_switch_given_twice_is_refused_also_with_its_opposite(program: str, name: str) -> None:
    for first in (f"--{name}", f"--no-{name}"):
        for second in (f"--{name}", f"--no-{name}", f"--{name}=true"):
            assert fault(program, first, second) == f"--{name} is given twice: give it once"


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (embedded.__main__.main, ["run", "--partitions", "1", "--partitions=2", "--", "true"]),
        (embedded.__main__.main, ["up", "--kafka-port", "1", "--kafka-port", "2"]),
        (demo.__main__.main, ["--rows", "5", "--rows=6"]),
        (demo.__main__.main, ["--exit", "--exit"]),
        (demo.__main__.main, ["--row", "5"]),
        (embedded.__main__.main, ["up", "--kafka-po", "1"]),
        (demo.__main__.main, ["--rate", "inf"]),
        (demo.__main__.main, ["--rate", "nan"]),
    ],
)
def test_the_embedded_programs_take_a_flag_once_and_whole(main: Callable[[list[str]], int], argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2


def test_what_follows_the_command_is_not_looked_at() -> None:
    own, command = embedded.__main__._split(["run", "--data", "d", "--", "ls", "--data", "--data"])
    assert (own, command) == (["run", "--data", "d"], ["ls", "--data", "--data"])


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("argv", [["--features="], ["--features", ""], ["--features", "  "], ["--features=\t"]])
def test_a_flag_with_nothing_is_refused(program: str, argv: list[str]) -> None:
    assert fault(program, *argv) == "--features: the value is empty; leave the flag out to use the default"


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("blank", [" ", "\t", "\n", " \r\n", "\u00a0"])
def test_blanks_around_a_value_do_not_count_however_it_was_given(
    environment: pytest.MonkeyPatch, program: str, blank: str
) -> None:
    kind, _ = PROGRAMS[program]
    values = {
        "features": "a,b,c",
        "label": "z",
        "kafka_train_topic": "learn",
        "index_prefix": "p",
        "kafka_bootstrap": "a:1,b:2",
        "kafka_user": "me",
        "log_level": "DEBUG",
        "server_timeout_s": "7",
        "checkpoint": "/folder",
        "run": "r",
        "source": "flights",
        "page_host": "localhost",
        "kibana_space": "team",
    }
    values = {name: value for name, value in values.items() if name in kind.model_fields}
    if "kafka_user" in values:
        environment.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
        environment.setenv("KAFKA_PASSWORD_FILE", __file__)
    plain = read(program, *(f"{flag(name)}={value}" for name, value in values.items()))
    assert read(program, *(f"{flag(name)}={blank}{value}{blank}" for name, value in values.items())) == plain
    for name, value in values.items():
        environment.setenv(name.upper(), f"{blank}{value}{blank}")
    assert read(program) == plain
    environment.delenv("KAFKA_SECURITY_PROTOCOL", raising=False)
    environment.delenv("KAFKA_PASSWORD_FILE", raising=False)
    for name in values:
        environment.setenv(name.upper(), blank)
    assert read(program) == kind()


@pytest.mark.parametrize("program", having("features", "label"))
def test_names_are_trimmed_alike_and_a_label_is_no_feature_whatever_blanks_are_around(program: str) -> None:
    settings = read(
        program, *(["--weights", "1,2"] if program == "producer" else []), "--features", " a , b", "--label=y "
    )
    features = settings.features if isinstance(settings.features, tuple) else tuple(settings.features.split(","))
    assert (features, settings.label) == (("a", "b"), "y")
    for label in ("a ", " b"):
        fault(program, *(["--weights", "1,2"] if program == "producer" else []), "--features", "a,b", "--label", label)


NAMES = [
    ("a,,b", "'a,,b' has an empty part"),
    (",a", "',a' has an empty part"),
    ("a, ", "'a,' has an empty part"),
    ("a,b, a", "a is listed twice"),
    ("a:int", "'a:int' looks like a name with a type"),
    ("a..b", "'a..b' is not a valid field name"),
    ("a*", "'a*' is not a valid field name"),
    ("a\\", r"'a\\' is not a valid field name"),
    ("a\\b", r"'a\\b' is not a valid field name"),
    ("a\\\\.b", r"'a\\\\.b' is not a valid field name"),
    ("a,\nb", r"contains a line break or another control character, '\n': remove it"),
    ("a\x7f", r"contains a line break or another control character, '\x7f': remove it"),
    ("a\udcff", "is not valid UTF-8 text"),
]


@pytest.mark.parametrize("program", having("features"))
@pytest.mark.parametrize(("value", "text"), NAMES)
def test_wrong_names_are_refused_in_the_same_words(program: str, value: str, text: str) -> None:
    assert fault(program, f"--features={value}").startswith(f"--features / FEATURES: {text}")


GOOD_FEATURES = {
    "carrier[UA|AA]": [("carrier", ("UA", "AA"))],
    " a , b[ x | y z ] ": [("a", ()), ("b", ("x", "y z"))],
    "Air temperature [K],a|b,c[0].v|w": [("Air temperature [K]", ()), ("a|b", ()), ("c[0].v|w", ())],
    r"speed \[m|s]": [(r"speed \[m|s]", ())],
    "Air [K][low|high]": [("Air [K]", ("low", "high"))],
    r"a\.b[x\|y|\[z\]]": [(r"a\.b", (r"x\|y", r"\[z\]"))],
    "t[08:00|12:30]": [("t", ("08:00", "12:30"))],
}
WRONG_FEATURES = [
    ("a[b|]", "'a[b|]' has an empty category: remove the extra |"),
    ("a[|]", "'a[|]' has an empty category"),
    ("a[b|b]", "b is listed twice"),
    ("a,a[b|c]", "a is listed twice"),
    ("x=a[b|c],x[a=b|d]", "x=a=b is listed twice"),
    ("[a|b]", "'' is not a valid field name"),
    ("a[b|c", "'a[b|c' is not a valid field name: categories, field[a|b], can only be at the end of a feature"),
    ("a[b|c]d", "'a[b|c]d' is not a valid field name: categories"),
    ("a[b|c].d", "'a[b|c].d' is not a valid field name: categories"),
    ("a[b|c][d|e]", "'a[b|c]' is not a valid field name: categories"),
    ("a:b[c|d]", "'a:b' looks like a name with a type"),
    ("a[b,c]", "'a[b,c]' has a comma between brackets, which separates features: write | between categories"),
    ("x,a[b, c|d,e],y", "'a[b,c|d,e]' has a comma between brackets"),
    ("a[b|c*]", "'c*' of 'a[b|c*]' is not a valid category"),
    ("a[b|c.]", "'c.' of 'a[b|c.]' is not a valid category"),
    (r"a[b|c\d]", r"'c\\d' of 'a[b|c\\d]' is not a valid category"),
]
WITH_CATEGORIES = [program for program in having("features") if program != "producer"]


@pytest.mark.parametrize("program", WITH_CATEGORIES)
@pytest.mark.parametrize(("value", "parts"), GOOD_FEATURES.items())
def test_categories_are_read_alike(program: str, value: str, parts: list[tuple[str, tuple[str, ...]]]) -> None:
    found = read(program, "--features", value).features.split(",")
    assert [streaming_regression.names.split_feature(feature) for feature in found] == parts


@pytest.mark.parametrize("program", WITH_CATEGORIES)
@pytest.mark.parametrize(("value", "text"), WRONG_FEATURES)
def test_wrong_categories_are_refused_in_the_same_words(program: str, value: str, text: str) -> None:
    assert fault(program, f"--features={value}").startswith(f"--features / FEATURES: {text}")


def test_the_features_of_synthetic_points_are_numbers() -> None:
    assert "categories, field[a|b], can only be at the end of a feature" in fault("producer", "--features", "a,b[x|y]")


def features_of(program: str, value: str) -> tuple[str, ...]:
    count = 1500 if program == "producer" else 0
    settings = read(program, "--features", value, *([f"--weights={','.join(['1'] * count)}"] if count else []))
    return settings.features if isinstance(settings.features, tuple) else tuple(settings.features.split(","))


@pytest.mark.parametrize("program", having("features"))
def test_features_can_be_1500_names_in_a_list_or_in_the_lines_of_a_file(
    environment: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    names = tuple(f"sensor {number}.value" for number in range(1498))
    file = tmp_path / "features.txt"
    lines = ["# what the machine measures", "", "  ", *names[:700], "  # more", "\\#1", *names[700:], " \\@timestamp "]
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    expected = (*names[:700], "#1", *names[700:], "@timestamp")
    assert features_of(program, f"@{file}") == expected
    assert features_of(program, ",".join(expected)) == expected
    assert features_of(program, "\\@timestamp,#1," + ",".join(names)) == ("@timestamp", "#1", *names)
    environment.setenv("FEATURES", f"@{file}")
    if program == "producer":
        environment.setenv("WEIGHTS", ",".join(["1"] * 1500))
    found = read(program).features
    assert (found if isinstance(found, tuple) else tuple(found.split(","))) == expected


@pytest.mark.parametrize("program", having("features"))
def test_a_file_of_features_that_cannot_be_used_is_named_in_one_sentence(tmp_path: Path, program: str) -> None:
    file = tmp_path / "features.txt"
    for content, text in (
        (b"", f"file {file} holds no names: write one name a line"),
        (b"\n # a\n", f"file {file} holds no names: write one name a line"),
        (b"\xff\n", f"file {file} is not valid UTF-8 text"),
        (b"a\nb\na\n", "a is listed twice"),
        (b"a\nb,c\n", "'b,c' is not a valid field name"),
        (b"a\nb\x07\n", r"contains a line break or another control character, '\x07': remove it"),
    ):
        file.write_bytes(content)
        line = fault(program, "--features", f"@{file}")
        assert line.startswith(f"--features / FEATURES: {text}")
        assert "\n" not in line
    for path, text in (
        (f"{tmp_path}/none", f"file {tmp_path}/none cannot be read: No such file or directory (write \\@ for an @"),
        (str(tmp_path), f"file {tmp_path} cannot be read: Is a directory"),
        ("", "'@' names no file: write @FILE (write \\@ for an @ that is part of a name)"),
    ):
        assert fault(program, "--features", f"@{path}").startswith(f"--features / FEATURES: {text}")


GOOD_ADDRESSES = {
    "a:1": "a:1",
    "a:1, b:2": "a:1,b:2",
    " a:1 ,b:65535 ": "a:1,b:65535",
    "[::1]:9092": "[::1]:9092",
    "[2001:db8::7]:9092, kafka-0.kafka.svc:9092": "[2001:db8::7]:9092,kafka-0.kafka.svc:9092",
    "127.0.0.1:9092": "127.0.0.1:9092",
    "my_host.:9": "my_host.:9",
}
WRONG_ADDRESSES = [
    ("::1:9092", "'::1:9092': write an IPv6 address in brackets, such as [::1]:port"),
    ("2001:db8::7:9092", "'2001:db8::7:9092': write an IPv6 address in brackets"),
    ("::1", "'::1': write an IPv6"),
    ("[::1]", "'[::1]' is not"),
    ("[::1:9092", "'[::1:9092' is not"),
    ("[12345::1]:1", "'[12345::1]:1' is not"),
    ("[a]:1", "'[a]:1' is not"),
    ("a", "'a' is not"),
    ("a:", "'a:' is not"),
    (":1", "':1' is not"),
    ("a:0", "'a:0' is not"),
    ("a:65536", "'a:65536' is not"),
    ("a:01", "'a:01' is not"),
    ("a:+1", "'a:+1' is not"),
    ("a:1_0", "'a:1_0' is not"),
    ("a:\u0661", "'a:\u0661' is not"),
    ("a b:1", "'a b:1' is not"),
    ("a:1 b:2", "'a:1 b:2' is not"),
    ("a:1;b:2", "'a:1;b:2' is not"),
    ("m\u00fcnchen:1", "'m\u00fcnchen:1' is not"),
    ("a:1,", "'a:1,' has an empty part"),
    ("a:1,,b:2", "'a:1,,b:2' has an empty part"),
    ("a:1, a:1", "a:1 is listed twice"),
]


@pytest.mark.parametrize("program", having("kafka_bootstrap"))
@pytest.mark.parametrize(("value", "read_as"), GOOD_ADDRESSES.items())
def test_addresses_of_brokers_are_read_alike(program: str, value: str, read_as: str) -> None:
    assert read(program, "--kafka-bootstrap", value).kafka_bootstrap == read_as


@pytest.mark.parametrize("program", having("kafka_bootstrap"))
@pytest.mark.parametrize(
    ("value", "text"), [*WRONG_ADDRESSES, ("kafka://a:1", "'kafka://a:1' is not host:port"), ("PLAINTEXT://a:1", "'PL")]
)
def test_wrong_addresses_of_brokers_are_refused_in_the_same_words(program: str, value: str, text: str) -> None:
    assert fault(program, f"--kafka-bootstrap={value}").startswith(f"--kafka-bootstrap / KAFKA_BOOTSTRAP: {text}")


def _as_urls(value: str) -> str:
    return ",".join(f"{part[: len(part) - len(part.lstrip())]}http://{part.strip()}" for part in value.split(","))


@pytest.mark.parametrize("program", having("elasticsearch_url"))
@pytest.mark.parametrize(("value", "read_as"), GOOD_ADDRESSES.items())
def test_addresses_of_nodes_are_read_as_those_of_brokers(program: str, value: str, read_as: str) -> None:
    assert read(program, "--elasticsearch-url", _as_urls(value)).elasticsearch_url == _as_urls(read_as)


@pytest.mark.parametrize("program", having("elasticsearch_url"))
@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        ("https://a", "https://a:443"),
        ("http://a", "http://a:80"),
        ("https://a.b/c:1", "https://a.b:443/c:1"),
        ("https://[::1]", "https://[::1]:443"),
        ("http://[::1]/x, https://b:1", "http://[::1]:80/x,https://b:1"),
    ],
)
def test_a_url_without_a_port_has_that_of_its_scheme(program: str, value: str, read_as: str) -> None:
    assert read(program, "--elasticsearch-url", value).elasticsearch_url == read_as
    if program == "load" and "," not in value:
        assert read(program, "--kibana-url", value).kibana_url == read_as
    assert "http://a:80 is listed twice" in fault(program, "--elasticsearch-url", "http://a,http://a:80")


@pytest.mark.parametrize("program", having("elasticsearch_url"))
@pytest.mark.parametrize(
    "value", [value for value, text in WRONG_ADDRESSES if "part" not in text and value not in {"a", "[::1]"}]
)
def test_wrong_addresses_of_nodes_are_refused_as_those_of_brokers(program: str, value: str) -> None:
    fault(program, f"--elasticsearch-url={_as_urls(value)}")
    if program == "load":
        fault(program, f"--kibana-url={_as_urls(value)}")


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_address_with_a_password_and_what_follows_an_unknown_flag_are_not_repeated(program: str) -> None:
    for name, value in (
        ("kafka_bootstrap", "me:hunter2@a:1"),
        ("elasticsearch_url", "http://me:hunter2@a:1"),
        ("kibana_url", "http://me:hunter2@a:1"),
        ("checkpoint", "s3a://me:hunter2@bucket/folder"),
        ("kafka_password_file", "hunter2"),
        ("kafka_password_file", "hunter2" * 1000),
        ("kafka_password_file", "hunter2\nhunter2"),
        ("kafka_key_password_file", "hunter2"),
        ("kafka_oauth_client_secret_file", "hunter2"),
        ("kafka_oauth_token_url", "https://me:hunter2@a/token"),
        ("kafka_options_file", "sasl.password=hunter2"),
        ("kafka_option", "sasl.password=hunter2"),
        ("kafka_option", "hunter2"),
        ("kafka_option", "hunter2==="),
        ("kafka_option", "group.id=hunter2"),
        ("kafka_option", "a.b=hunter2\x01"),
        ("elasticsearch_token_file", "hunter2"),
        ("elasticsearch_key_password_file", "hunter2"),
        ("elasticsearch_api_key_file", "hunter2" * 1000),
    ):
        if name in PROGRAMS[program][0].model_fields:
            line = fault(program, f"{flag(name)}={value}")
            assert line.startswith(f"{flag(name)} / {name.upper()}: ")
            assert "hunter2" not in line
    assert fault(program, "--password", "hunter2").endswith("unrecognized arguments: --password (see --help)")
    assert "hunter2" not in fault(program, "--password=hunter2")


OPTIONS = [
    ("fetch.wait.max.ms=5", {"fetch.wait.max.ms": "5"}),
    (" a.b = x,y \n\n# c=d\nssl.cipher.suites=a=b,c ", {"a.b": "x,y", "ssl.cipher.suites": "a=b,c"}),
    ("a.b=", {"a.b": ""}),
    ("a.b=\"q\" 's' [1]", {"a.b": "\"q\" 's' [1]"}),
]
WRONG_OPTIONS = [
    ("a.b", "line 1 is not NAME=VALUE with the name of an option of librdkafka"),
    ("a.b=1\nA=2", "line 2 is not NAME=VALUE"),
    ("=1", "line 1 has no name before the =: write NAME=VALUE"),
    ("a.b=1\na.b=2", "a.b is given twice: give it once"),
    ("sasl.password=1", "sasl.password has a setting of its own: use --kafka-password-file"),
    ("bootstrap.servers=a:1", "bootstrap.servers has a setting of its own: use --kafka-bootstrap"),
    ("ssl.key.password=1", "use --kafka-key-password-file"),
    ("https.ca.location=/x", "use --kafka-oauth-ca-file"),
    ("sasl.oauthbearer.client.secret=1", "use --kafka-oauth-client-secret-file"),
    ("group.id=1", "group.id cannot be changed: the program must read each record exactly once"),
    ("isolation.level=read_uncommitted", "isolation.level cannot be changed"),
    ("enable.partition.eof=false", "cannot be changed"),
    ("transactional.id=1", "transactional.id cannot be changed: the program must send each record exactly once"),
    ("acks=0", "acks cannot be changed"),
    ("error_cb=1", "error_cb cannot be changed: it is for programs that use librdkafka"),
    ("debug=all", "debug cannot be changed: its messages may contain secrets"),
    ("log_level=7", "log_level cannot be changed: use --log-level"),
]


@pytest.mark.parametrize("program", having("kafka_option"))
@pytest.mark.parametrize(("value", "read_as"), OPTIONS)
def test_an_option_is_a_line_or_a_flag_of_its_own(
    environment: pytest.MonkeyPatch, program: str, value: str, read_as: dict[str, str]
) -> None:
    words = [word for line in value.split("\n") if line.strip() for word in ("--kafka-option", line)]
    settings = read(program, *words)
    assert producer.login.options(settings.kafka_option) == read_as
    assert not [text for text in read_as.values() if len(text) > 1 and text in repr(settings)]
    environment.setenv("KAFKA_OPTION", value)
    assert producer.login.options(read(program).kafka_option) == read_as
    assert read(program, "--kafka-option=x.y=1").kafka_option == "x.y=1"


@pytest.mark.parametrize("program", having("kafka_option"))
@pytest.mark.parametrize(("value", "text"), WRONG_OPTIONS)
def test_an_option_that_the_program_sets_itself_is_refused_with_the_right_setting(
    environment: pytest.MonkeyPatch, program: str, value: str, text: str
) -> None:
    environment.setenv("KAFKA_OPTION", value)
    line = fault(program)
    assert line.startswith("--kafka-option / KAFKA_OPTION: ")
    assert text in line
    words = [word for line in value.split("\n") for word in ("--kafka-option", line)]
    assert fault(program, *words) == line


@pytest.mark.parametrize("module", [streaming_regression.kafka.login, producer.login])
def test_an_option_in_a_file_is_refused_like_one_on_the_command_line(module: Any, tmp_path: Path) -> None:
    file = tmp_path / "options"
    login = module.Login(options_file=file)
    for value, text in WRONG_OPTIONS:
        file.write_text(value)
        with pytest.raises(CONFIG_ERRORS) as error:
            module.client_config(login, "")
        assert str(error.value).startswith(f"--kafka-options-file / KAFKA_OPTIONS_FILE: {file}: ")
        assert text in str(error.value)
    file.write_text("a.b=hunter2")
    assert module.client_config(login, "c.d=1") == {"security.protocol": "PLAINTEXT", "c.d": "1", "a.b": "hunter2"}
    with pytest.raises(CONFIG_ERRORS, match=r"a\.b is also given by --kafka-option: give it once"):
        module.client_config(login, "a.b=1")


CLASHES: list[tuple[list[str], str]] = [
    (
        ["--kafka-certificate-file", __file__, "--kafka-security-protocol", "SSL"],
        "--kafka-key-file / KAFKA_KEY_FILE: not",
    ),
    (
        ["--kafka-key-file", __file__],
        "--kafka-certificate-file / KAFKA_CERTIFICATE_FILE: not set: --kafka-key-file needs",
    ),
    (["--kafka-key-password-file", __file__], "is the password of --kafka-key-file, which is not set"),
    (
        ["--kafka-certificate-file", __file__, "--kafka-key-file", __file__],
        "--kafka-certificate-file / KAFKA_CERTIFICATE_FILE: needs --kafka-security-protocol SSL or SASL_SSL (found",
    ),
    (
        [
            *("--kafka-certificate-file", __file__, "--kafka-key-file", __file__, "--kafka-security-protocol", "SSL"),
            *("--kafka-user", "me", "--kafka-password-file", __file__),
        ],
        "--kafka-password-file / KAFKA_PASSWORD_FILE: with --kafka-security-protocol SSL the certificate is the login",
    ),
    (
        ["--kafka-user", "me", "--kafka-password-file", __file__],
        "--kafka-password-file / KAFKA_PASSWORD_FILE: needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT",
    ),
    (
        ["--kafka-user", "me", "--kafka-security-protocol", "SSL"],
        "--kafka-user / KAFKA_USER: needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT (found SSL)",
    ),
    (
        ["--kafka-ca-file", __file__],
        "--kafka-ca-file / KAFKA_CA_FILE: needs --kafka-security-protocol SSL or SASL_SSL (found PLAINTEXT)",
    ),
    (
        ["--kafka-oauth-client-id", "me"],
        "--kafka-oauth-client-id / KAFKA_OAUTH_CLIENT_ID: needs --kafka-sasl-mechanism",
    ),
    (
        ["--kafka-security-protocol", "SASL_SSL", "--kafka-sasl-mechanism", "OAUTHBEARER"],
        "--kafka-oauth-token-url / KAFKA_OAUTH_TOKEN_URL: not set: OAUTHBEARER needs the token endpoint",
    ),
    (
        [
            *("--kafka-security-protocol", "SASL_SSL", "--kafka-sasl-mechanism", "OAUTHBEARER", "--kafka-user", "me"),
            *("--kafka-oauth-token-url", "https://a/b", "--kafka-oauth-client-id", "me"),
            *("--kafka-oauth-client-secret-file", __file__),
        ],
        "--kafka-user / KAFKA_USER: is not used by OAUTHBEARER",
    ),
    (
        [
            *("--kafka-security-protocol", "SASL_SSL", "--kafka-sasl-mechanism", "OAUTHBEARER"),
            *("--kafka-oauth-token-url", "http://a/b", "--kafka-oauth-client-id", "me"),
            *("--kafka-oauth-client-secret-file", __file__, "--kafka-oauth-ca-file", __file__),
        ],
        "--kafka-oauth-ca-file / KAFKA_OAUTH_CA_FILE: needs https",
    ),
    (["--kafka-oauth-token-url", "login/token"], "'login/token' is not http://host:port/path or https://host/path"),
]


@pytest.mark.parametrize("program", having("kafka_option"))
@pytest.mark.parametrize(("argv", "text"), CLASHES)
def test_settings_of_the_login_to_kafka_that_do_not_go_together_are_named(
    program: str, argv: list[str], text: str
) -> None:
    assert text in fault(program, *argv)


@pytest.mark.parametrize("program", having("kafka_option"))
def test_with_options_oauthbearer_may_get_its_token_in_another_way(program: str) -> None:
    login = ["--kafka-security-protocol", "SASL_SSL", "--kafka-sasl-mechanism", "OAUTHBEARER"]
    option = "sasl.oauthbearer.metadata.authentication.type=azure_imds"
    assert read(program, *login, "--kafka-option", option).kafka_option == option


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_word_of_json_or_of_python_is_a_name_like_any_other(environment: pytest.MonkeyPatch, program: str) -> None:
    for word in ("None", "none", "null", "nan", "true", "1e3"):
        assert read(program, "--label", word).label == word
        environment.setenv("LABEL", word)
        assert read(program).label == word


ODD = [
    "nan",
    "-inf",
    "1e400",
    "1" * 5000,
    "1e999999999",
    "1_0",
    "0x10",
    "-1",
    "\u0661",
    "[]",
    '{"a":1}',
    "x" * 5000,
    "/a" * 3000,
]
ODD += ["\udcff", "a\x00b", "a\nb", "%s", "{0}", "-", "@", ",", "~", "1/0", "1/3", "a b"]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("value", ODD, ids=[json.dumps(value[:12]) for value in ODD])
def test_an_odd_value_is_taken_or_refused_with_a_line_never_a_trace(program: str, value: str) -> None:
    for name in PROGRAMS[program][0].model_fields:
        try:
            read(program, f"{flag(name)}={value}")
        except CONFIG_ERRORS as error:
            said = str(error)
        else:
            continue
        assert flag("") in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("program", "name", "value"),
    [
        *[
            (program, "server_timeout_s", value)
            for program in having("server_timeout_s")
            for value in ("inf", "1e9", "-1")
        ],
        ("load", "request_timeout_s", "inf"),
        ("load", "request_timeout_s", "1e300"),
        ("app", "sgd_iterations", "1" * 30),
        ("producer", "count", str(2**63)),
        ("producer", "seed", str(2**64)),
        ("producer", "rate", "1e-320"),
        ("producer", "rate", "1e308"),
        ("producer", "weights", "1,2,1e308"),
        ("producer", "noise", "1e308"),
        ("producer", "intercept", "-1e308"),
        ("producer", "test_fraction", "1e999999999"),
        ("producer", "test_fraction", "nan"),
        ("serve", "page_host", "a b"),
        ("serve", "page_port", "65536"),
        ("app", "kafka_ca_file", "x" * 5000),
        ("producer", "input_file", "x" * 5000),
    ],
)
def test_a_value_that_a_library_below_would_stumble_over_is_refused_at_once(
    program: str, name: str, value: str
) -> None:
    assert fault(program, f"{flag(name)}={value}").startswith(f"{flag(name)} / {name.upper()}: ")


GOOD_CHECKPOINTS = [
    "checkpoint",
    "./run:1",
    "a/b:c",
    "/data/run:1",
    "/data/2026-11-28T21:00",
    "file:/data",
    "file:///data/x y",
    "hdfs://namenode:8020/models",
    "hdfs:///models",
    "s3a://bucket/folder",
    "s3a://bucket",
    "abfss://container@account.dfs.core.windows.net/folder",
    "viewfs://cluster/x",
    "/a b/\u00e9/%20/#?*[{",
    "../x",
    "./~",
]
WRONG_CHECKPOINTS = [
    ("run:1", "'run:1' is neither a folder nor a URI such as s3a://bucket/folder"),
    ("C:\\data", "looks like a Windows path"),
    ("c:/data", "looks like a Windows path"),
    ("a:b", "looks like a Windows path"),
    (":x", "is neither a folder nor a URI"),
    ("s3a:x", "is neither a folder nor a URI"),
    ("hdfs://namenode:99999/x", "is not a host, bucket or host:port"),
    ("file:rel", "is neither a folder nor a URI"),
    ("1a:/x", "is neither a folder nor a URI"),
    ("s3 a:/x", "is neither a folder nor a URI"),
    ("s3a:", "is neither a folder nor a URI"),
    ("s3a:///x", "does not name a folder: write s3a://bucket/folder"),
    ("s3a:/x", "does not name a folder: write s3a://bucket/folder"),
    ("s3a://", "does not name a folder: write s3a://bucket/folder"),
    ("hdfs://", "does not name a folder: write hdfs://host/folder"),
    ("file://", "does not name a folder: write file:///folder"),
    ("file://data/x", "a file: URI must not name a host"),
    ("http://host/x", "a checkpoint cannot be written over http"),
    ("hdfs://host:port/x", "'host:port' is not a host"),
    ("hdfs://a b/x", "'a b' is not a host"),
    ("//x/y", "begins with two slashes"),
    ("~", "~ has a meaning only in a shell"),
    ("~/x", "~ has a meaning only in a shell"),
    ("~me/x", "~ has a meaning only in a shell"),
    ("s3a://key:secret@bucket/x", "a URI must not contain a password"),
]


@pytest.mark.parametrize("value", GOOD_CHECKPOINTS)
def test_a_folder_or_uri_is_taken_for_the_checkpoint_without_the_blanks_around(value: str) -> None:
    assert read("app", "--checkpoint", f" {value} ").checkpoint == value


@pytest.mark.parametrize(("value", "text"), WRONG_CHECKPOINTS)
def test_a_checkpoint_that_hadoop_could_not_take_is_refused_at_once(
    environment: pytest.MonkeyPatch, value: str, text: str
) -> None:
    line = fault("app", "--checkpoint", value)
    assert line.startswith("--checkpoint / CHECKPOINT: ")
    assert text in line
    assert "\n" not in line
    environment.setenv("CHECKPOINT", f"  {value}\n")
    assert fault("app") == line


def test_a_ca_file_without_https_is_refused_by_all_that_have_one(tmp_path: Path) -> None:
    file = tmp_path / "ca"
    file.touch()
    for program in having("elasticsearch_ca_file"):
        assert "--elasticsearch-ca-file needs https" in fault(program, "--elasticsearch-ca-file", str(file))
    assert "--kibana-ca-file needs https" in fault("load", "--kibana-ca-file", str(file))
