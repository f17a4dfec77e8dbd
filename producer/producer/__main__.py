"""The program: `python -m producer --help`."""

import logging
import signal
import sys
from collections.abc import Sequence

from producer import logs
from producer.delivery import Delivery, deliver
from producer.errors import Interrupted, StreamError
from producer.formats import encoder
from producer.kafka import Stop, Watch
from producer.progress import progress
from producer.settings import Settings, load
from producer.sources import source
from producer.summary import Summary
from producer.topics import Topics

log = logging.getLogger("producer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    logs.configure("INFO", "text")
    try:
        settings = load(sys.argv[1:] if argv is None else argv)
        logs.configure(settings.log_level, settings.log_format)
        run(settings)
    except StreamError as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        log.debug("the traceback of the error above", exc_info=True)
        return error.exit_code
    except Interrupted as interrupted:
        log.warning("stopped by a signal; run the same command again to continue")
        return interrupted.exit_code
    return 0


def run(settings: Settings) -> None:
    """Send the records that the settings select, and print a summary."""
    stop = Stop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    records = source(settings)
    encode = encoder(settings, stop)
    watch = Watch(settings, stop)
    summary = Summary(settings.run or records.name, {settings.kafka_train_topic: 0, settings.kafka_test_topic: 0})
    log.info("sending run %r to Kafka at %s", summary.run, settings.kafka_bootstrap)
    topics = Topics(settings, watch, summary.run)
    if written := topics.written.count:
        log.info("%s records of this run are already written", f"{written:,}")
    if settings.stdin and not settings.run:
        log.info("standard input cannot be read twice: to be able to continue after a stop, name the run (--run)")
    total = min((length for length in (settings.count, records.length) if length), default=None)
    try:
        with progress(written, total) as report:
            deliver(settings, records, topics, Delivery(settings, watch, summary, report), encode)
    finally:
        sys.stdout.write(summary.text(settings.log_format))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
