"""Real Kafka and Elasticsearch on this machine, for as long as a command runs.

  python -m embedded run -- CMD …   start both, run CMD with KAFKA_BOOTSTRAP and ELASTICSEARCH_URL set, stop both
  python -m embedded up             start both, print their addresses, stop both at Ctrl-C
  python -m embedded fetch          download the jars of both (about 90 MB, once), start nothing

`--elasticsearch 8.19.21` uses the newest Elasticsearch 8 instead of 9.

This needs Java 17 or newer. Both servers end when this program ends, even if it is killed.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from embedded import jars
from embedded.elasticsearch import Elasticsearch
from embedded.errors import ConfigError, EmbeddedError, ServerUnavailable
from embedded.flags import check_once
from embedded.kafka import PARTITIONS, TOPICS, Kafka
from embedded.server import Server, start_together


class Signalled(BaseException):
    """Raised on a signal while no command is running."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    logging.getLogger().addHandler(logging.NullHandler())  # else Py4J prints tracebacks when a JVM ends
    own, command = _split(list(sys.argv[1:] if argv is None else argv))
    parser = _parser()
    check_once(parser, own)
    options = parser.parse_args(own, argparse.Namespace(command=command))
    try:
        with _on_signal(_raise):
            return int(options.action(options))
    except EmbeddedError as error:
        _say(str(error))
        return error.exit_code
    except Signalled as signalled:
        return 128 + signalled.number


def _fetch(options: argparse.Namespace) -> int:
    _refuse_command(options)
    for folder in jars.fetch(jars.KAFKA, jars.ELASTICSEARCHES[options.elasticsearch]):
        sys.stdout.write(f"{folder}\n")
    return 0


def _up(options: argparse.Namespace) -> int:
    _refuse_command(options)
    with _servers(options) as (servers, addresses):
        sys.stdout.writelines(f"{name}={address}\n" for name, address in addresses.items())
        sys.stdout.flush()
        _say("both servers run until Ctrl-C")
        with suppress(Signalled):
            while not (dead := _dead(servers)):
                time.sleep(0.5)
            raise ServerUnavailable(dead)
    return 0


def _run(options: argparse.Namespace) -> int:
    if not options.command:
        raise ConfigError("run needs a command: python -m embedded run -- CMD …")
    if not shutil.which(options.command[0]):
        raise ConfigError(f"{options.command[0]} is not a program on the PATH")
    with _servers(options) as (servers, addresses):
        code = _call(options.command, os.environ | addresses, servers)
    return code if code >= 0 else 128 - code


def _call(command: Sequence[str], environment: dict[str, str], servers: Sequence[Server]) -> int:
    """Run `command`, pass signals on to it, and return its exit code."""
    early: list[int] = []
    with _on_signal(lambda number, _: early.append(number)):
        try:
            child = subprocess.Popen(command, env=environment)
        except OSError as error:
            raise ConfigError(f"{command[0]} does not start: {error.strerror}") from error
        with _on_signal(lambda number, _: _pass_on(number, child)):
            for number in early:
                child.send_signal(number)
            reported = False
            while not _ended(child, 0.5):
                if (dead := _dead(servers)) and not reported:
                    _say(dead)
                    reported = True
    return child.returncode


def _ended(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _pass_on(number: int, child: subprocess.Popen[bytes]) -> None:
    if number == signal.SIGINT:
        with suppress(OSError), Path("/dev/tty").open() as terminal:
            if os.tcgetpgrp(terminal.fileno()) == os.getpgrp():
                return  # a Ctrl-C: the terminal has sent it to the command, too
    child.send_signal(number)


@contextmanager
def _servers(options: argparse.Namespace) -> Iterator[tuple[list[Server], dict[str, str]]]:
    """Start both servers; yield them and the environment variables with their addresses; stop them at the end."""
    jars.fetch(jars.KAFKA, jars.ELASTICSEARCHES[options.elasticsearch])
    begin = time.monotonic()
    data = options.data
    kafka = Kafka(port=options.kafka_port, data=data and data / "kafka", heap=options.kafka_heap)
    search = Elasticsearch(
        port=options.elasticsearch_port,
        data=data and data / "elasticsearch",
        heap=options.elasticsearch_heap,
        version=options.elasticsearch,
    )
    try:
        start_together(kafka, search)
        kafka.create_topics(partitions=options.partitions)
        _say(f"Kafka {kafka.bootstrap} and Elasticsearch {search.url} are up after {time.monotonic() - begin:.1f} s")
        yield [kafka, search], {"KAFKA_BOOTSTRAP": kafka.bootstrap, "ELASTICSEARCH_URL": search.url}
    finally:
        with _on_signal(signal.SIG_IGN):
            kafka.close()
            search.close()


def _dead(servers: Sequence[Server]) -> str:
    return "\n".join(
        f"{server.name} ended unexpectedly; {server.log_tail()}" for server in servers if not server.running
    )


@contextmanager
def _on_signal(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _raise(number: int, _: FrameType | None) -> None:
    raise Signalled(number)


def _say(text: str) -> None:
    print(f"embedded: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _refuse_command(options: argparse.Namespace) -> None:
    if options.command:
        raise ConfigError("only run takes a command after --")


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before and after the first `--`; argparse splits them differently in each Python version."""
    cut = argv.index("--") if "--" in argv else len(argv)
    return argv[:cut], argv[cut + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m embedded", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(required=True, metavar="{run,up,fetch}")
    version = argparse.ArgumentParser(add_help=False)
    version.add_argument(
        "--elasticsearch",
        choices=jars.ELASTICSEARCHES,
        default=jars.ELASTICSEARCH.version,
        metavar="VERSION",
        help=f"version: {' or '.join(jars.ELASTICSEARCHES)} (default: %(default)s)",
    )
    servers = argparse.ArgumentParser(add_help=False, parents=[version])
    add = servers.add_argument
    add("--kafka-port", type=port, default=0, metavar="N", help="port on 127.0.0.1; 0: any free port (default: 0)")
    add(
        "--elasticsearch-port",
        type=port,
        default=0,
        metavar="N",
        help="port on 127.0.0.1; 0: any free port (default: 0)",
    )
    topics = " and ".join(TOPICS)
    add(
        "--partitions",
        type=count,
        default=PARTITIONS,
        metavar="N",
        help=f"partitions of new topics {topics} (default: %(default)s)",
    )
    add("--kafka-heap", default="512m", metavar="SIZE", help="heap of Kafka's JVM (default: %(default)s)")
    add("--elasticsearch-heap", default="1g", metavar="SIZE", help="heap of Elasticsearch's JVM (default: %(default)s)")
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder for topics, indices and logs (default: a temporary folder, removed at the end)",
    )
    run = actions.add_parser(
        "run",
        parents=[servers],
        allow_abbrev=False,
        usage="%(prog)s [options] -- CMD …",
        help="run a command while both servers run",
        description="Start both servers, run CMD, stop both. The exit code is CMD's, 128 + N if signal N ended it.",
    )
    run.set_defaults(action=_run)
    up = actions.add_parser(
        "up",
        parents=[servers],
        allow_abbrev=False,
        help="run both servers until Ctrl-C",
        description="Start both servers, print KAFKA_BOOTSTRAP=… and ELASTICSEARCH_URL=…, stop both at Ctrl-C.",
    )
    up.set_defaults(action=_up)
    fetch = actions.add_parser(
        "fetch",
        parents=[version],
        help="download the jars only",
        description="Download the jars that are not yet in the cache folder.",
    )
    fetch.set_defaults(action=_fetch)
    return parser


def port(text: str) -> int:
    """Parse a port; the name shows in argparse's message."""
    if not 0 <= int(text) < 65536:
        raise ValueError
    return int(text)


def count(text: str) -> int:
    """Parse a number from 1; the name shows in argparse's message."""
    if int(text) < 1:
        raise ValueError
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
