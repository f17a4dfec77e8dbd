"""Downloads the servers' jars into the user's cache folder.

Apache Ivy, which is among pyspark's jars, resolves them from Maven Central. Each server's jars are downloaded to a
folder `NAME-VERSION.part`, checked against a pinned digest, and then renamed to `NAME-VERSION`, so a folder of this
name is always complete. An interrupted download leaves its `.part` folder, and Ivy reuses the files in it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from py4j.protocol import Py4JError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from embedded.errors import ConfigError, ServerUnavailable
from embedded.jvm import Jvm, machine_java, pyspark_jar, root_cause

KAFKA_VERSION = "4.3.1"
ELASTICSEARCH_VERSION = "9.5.3"
REGISTRY_VERSION = "3.3.3"

LINE_EVERY_S = 5.0  # without a terminal
NEEDED_MB = 250  # both servers' jars, downloaded and copied
# Ivy sets no timeouts: without these a connection on which nothing more arrives would hang for ever.
NETWORK = ["-Dsun.net.client.defaultConnectTimeout=20000", "-Dsun.net.client.defaultReadTimeout=60000"]
# Messages of Ivy and Java about network failures; the groups are the parts to show to the user.
NETWORK_FAILED = re.compile(
    r"Server access error at url \S+ \((?:[\w.]+: )?(.*)\)|(Host \S+ not found)|\[FAILED +\] \S+: (\S.*) \("
)
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")


@dataclass(frozen=True, slots=True)
class Distribution:
    """A server's jars, or an archive with them.

    Parameters
    ----------
    name, version
        The server's.
    artifacts
        Group, name and version of the artifacts that the jars are resolved from.
    sha256
        The digest of the jars' names and contents.
    size
        Bytes of all jars, to show the progress; None if not known.
    archive
        Whether the only artifact is the archive `…-all.tar.gz` of the server's folder; its content is the result.
    """

    name: str
    version: str
    artifacts: tuple[tuple[str, str, str], ...]
    sha256: str
    size: int | None = None
    archive: bool = False

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"


KAFKA = Distribution(
    name="kafka",
    version=KAFKA_VERSION,
    artifacts=(
        ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),  # Kafka's artifact has log4j, but not this binding
    ),
    sha256="bb63a7765962eb0de1065027ce45e3dfe9d95b1113d7725462264c3bfed70ab2",
    size=45_035_715,
)


def _elasticsearch(version: str, sha256: str, size: int) -> Distribution:
    return Distribution(
        name="elasticsearch",
        version=version,
        artifacts=(
            ("org.elasticsearch", "elasticsearch", version),
            ("org.elasticsearch.plugin", "transport-netty4", version),
        ),
        sha256=sha256,
        size=size,
    )


ELASTICSEARCH = _elasticsearch(
    ELASTICSEARCH_VERSION, "55c9bfc1b930039632d8a86af2375c9426da14400ac717f8e4d53e41ceda778d", 45_719_408
)
ELASTICSEARCH_8 = _elasticsearch(
    "8.19.21", "b889912e1166ffbb6524439054982ee1a02550499adefcba6d1835a8832fb0ea", 42_523_053
)
"""The newest release of version 8, for tests and for users of version 8."""
REGISTRY = Distribution(
    name="apicurio-registry",
    version=REGISTRY_VERSION,
    artifacts=(("io.apicurio", "apicurio-registry-app", REGISTRY_VERSION),),
    sha256="76ce6fa62b3964512f18ec2e701cafdda2e26f63a37c6925a247a7fff2fc761b",
    size=158_577_952,
    archive=True,
)
"""Apicurio Registry, which has the API of Confluent's schema registry; for tests."""
ELASTICSEARCHES = {distribution.version: distribution for distribution in (ELASTICSEARCH, ELASTICSEARCH_8)}


def fetch(*distributions: Distribution) -> list[Path]:
    """Return the folders with the jars of `distributions`, by default both servers; download those not in the cache.

    Progress goes to stderr: a bar for each server on a terminal, else a line for each every 5 s.

    Raises
    ------
    ConfigError
        There is no Java or no disk space, or the cache folder is not writable.
    ServerUnavailable
        The jars could not be downloaded.
    """
    distributions = distributions or (KAFKA, ELASTICSEARCH)
    cache = platformdirs.user_cache_path("streaming-ml").absolute()
    targets = [cache / str(distribution) for distribution in distributions]
    try:
        if not all(target.exists() for target in targets):
            cache.mkdir(parents=True, exist_ok=True)
            with _lock(cache / "lock"):  # another program may have held it and downloaded them
                missing = [d for d, target in zip(distributions, targets, strict=True) if not target.exists()]
                if missing:
                    _download(cache, missing)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {cache} cannot be written ({error.strerror}): "
            "make room there, or set XDG_CACHE_HOME to another folder"
        ) from error
    return targets


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Console(stderr=True).print(f"waiting for another program's download into {path.parent}", soft_wrap=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(cache: Path, missing: Sequence[Distribution]) -> None:
    free_mb = shutil.disk_usage(cache).free // 1_000_000
    if free_mb < NEEDED_MB:
        raise OSError(errno.ENOSPC, f"{free_mb} MB are free, {NEEDED_MB} MB are needed")
    java = machine_java()
    jobs: list[_Job] = []
    with ThreadPoolExecutor(len(missing)) as pool:
        try:
            # `extend` adds each job as it is made, so that all are killed if a later one fails.
            jobs.extend(_Job(distribution, cache, java) for distribution in missing)
            futures = [pool.submit(job.run) for job in jobs]
            _show_progress(jobs, futures)
        finally:
            for job in jobs:
                job.kill()


class _Job:
    """The download of one distribution, by a JVM with Ivy."""

    def __init__(self, distribution: Distribution, cache: Path, java: Path) -> None:
        self.distribution = distribution
        self.target = cache / str(distribution)
        self.part = cache / f"{distribution}.part"
        self.part.mkdir(exist_ok=True)
        self._log = self.part / "ivy.log"
        self._log.unlink(missing_ok=True)
        options = [*NETWORK, f"-Divy.default.ivy.user.dir={self.part}"]
        self._jvm = Jvm(java, [pyspark_jar("ivy")], options, log=self._log)
        self._count = (0, 0)

    def count(self) -> tuple[int, int]:
        """Return the number of artifacts that Ivy has found, and the bytes of jars that have arrived."""
        if not self.target.exists():
            artifacts = size = 0
            for folder, _, names in os.walk(self.part / "cache"):  # glob would fail for files deleted meanwhile
                artifacts += sum(name.endswith(".xml") for name in names)
                for name in names:
                    if name.removesuffix(".part").endswith((".jar", ".tar.gz")):
                        with suppress(FileNotFoundError):
                            size += (Path(folder) / name).stat().st_size
            self._count = artifacts, size
        return self._count

    def kill(self) -> None:
        self._jvm.kill()

    def run(self) -> None:
        lib = self.part / "lib"
        shutil.rmtree(lib, ignore_errors=True)
        try:
            problems = self._retrieve(f"{lib}/[artifact]-[revision](-[classifier]).[ext]")
        except Py4JError as error:
            problems = [root_cause(error)]
        if not problems and _digest(lib) != self.distribution.sha256:
            problems = ["its jars are not those that are pinned"]
        if problems:
            raise self._failure(problems)
        self.count()
        if self.distribution.archive:
            (archive,) = lib.iterdir()
            shutil.unpack_archive(archive, lib)
            archive.unlink()
        lib.rename(self.target)
        shutil.rmtree(self.part)

    def _failure(self, problems: Sequence[str]) -> Exception:
        log = self._log.read_text(errors="replace")
        if disk := DISK_FULL.search("\n".join([*problems, log])):
            return OSError(errno.ENOSPC, disk[0])
        what = f"{self.distribution} cannot be downloaded"
        if network := NETWORK_FAILED.search(log):
            return ServerUnavailable(
                f"{what} ({next(filter(None, network.groups()))}): check the network, or give Java a proxy by "
                f"JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT', and run it again; see {self._log}"
            )
        shutil.rmtree(self.part)  # it may be damaged; the next attempt downloads everything again
        return ServerUnavailable(f"{what} ({problems[0]}): the incomplete download was removed, run it again")

    def _retrieve(self, pattern: str) -> list[str]:
        """Download the jars to files named by `pattern`; return Ivy's error messages."""
        module = self.part / "ivy.xml"
        module.write_text(_module(self.distribution))
        view = self._jvm.connect()
        ivy = view.org.apache.ivy.Ivy.newInstance()
        ivy.configureDefault()
        confs = self._jvm.array("lib")
        options = view.org.apache.ivy.core.resolve.ResolveOptions().setConfs(confs)
        report = ivy.resolve(view.java.io.File(str(module)), options)
        if report.hasError():
            return list(map(str, report.getAllProblemMessages()))
        options = view.org.apache.ivy.core.retrieve.RetrieveOptions().setConfs(confs)
        options.setDestArtifactPattern(pattern)
        ivy.retrieve(report.getModuleDescriptor().getModuleRevisionId(), options)
        return []


def _digest(folder: Path) -> str:
    """Sync the files to the disk, and return a digest of their names and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.sha256(file.read()).digest())
            os.fsync(file.fileno())
    return digest.hexdigest()


def _module(distribution: Distribution) -> str:
    artifact = '<artifact name="{}" type="tar.gz" ext="tar.gz" m:classifier="all"/>' if distribution.archive else ""
    dependencies = "".join(
        f'<dependency org="{group}" name="{name}" rev="{version}" conf="lib->default" '
        f'transitive="{str(not distribution.archive).lower()}">{artifact.format(name)}</dependency>'
        for group, name, version in distribution.artifacts
    )
    return (
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">'
        f'<info organisation="embedded" module="{distribution.name}"/>'
        '<configurations><conf name="lib"/></configurations>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )


def _show_progress(jobs: Sequence[_Job], futures: Sequence[Future[None]]) -> None:
    """Show the progress of `jobs` until all have ended; raise the first error."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    names = " and ".join(str(job.distribution) for job in jobs)
    console.print(f"downloading {names} to {jobs[0].target.parent}")
    start = time.monotonic()
    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars = [progress.add_task("", total=job.distribution.size) for job in jobs]
        before = [0.0 for _ in jobs]
        while wait(futures, timeout=0.2 if console.is_terminal else LINE_EVERY_S).not_done:
            for number, (job, bar) in enumerate(zip(jobs, bars, strict=True)):
                artifacts, size = job.count()
                found = "" if size else f": looking for its jars, {artifacts} artifacts found"
                progress.update(bar, completed=size, description=f"{job.distribution}{found}")
                if not console.is_terminal:
                    console.print(f"{job.distribution}{found or _arrived(job, size, before[number])}")
                before[number] = size
    for future in futures:
        future.result()
    megabytes = sum(job.count()[1] for job in jobs) / 1e6
    console.print(f"downloaded {megabytes:.0f} MB in {time.monotonic() - start:.0f} s")


def _arrived(job: _Job, size: float, before: float) -> str:
    total = f" of {job.distribution.size / 1e6:.1f}" if job.distribution.size else ""
    return f": {size / 1e6:.1f}{total} MB, {(size - before) / LINE_EVERY_S / 1e6:.1f} MB/s"
