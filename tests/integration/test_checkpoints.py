"""The setting --checkpoint accepts and refuses the same values as Hadoop's Path; checked with the real class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from py4j.java_gateway import JavaGateway
from py4j.protocol import Py4JJavaError
from pyspark.java_gateway import launch_gateway

from tests.unit.test_setting_rules import GOOD_CHECKPOINTS, WRONG_CHECKPOINTS

REFUSED_BY_PATH = "is neither a folder nor a URI"


@pytest.fixture(scope="module")
def jvm() -> Iterator[JavaGateway]:
    gateway = launch_gateway()  # type: ignore[no-untyped-call]
    yield gateway
    gateway.shutdown()
    with gateway.proc as process:
        process.kill()


def folders(jvm: JavaGateway, checkpoint: str) -> str:
    """The path that the app derives from the setting."""
    path = jvm.jvm.org.apache.hadoop.fs.Path
    return str(path(path(path(checkpoint), "model"), "0.json").toString())


def is_taken(jvm: JavaGateway, checkpoint: str) -> bool:
    try:
        folders(jvm, checkpoint)
    except Py4JJavaError:
        return False
    return True


def test_what_the_setting_takes_hadoop_takes(jvm: JavaGateway, tmp_path: Path) -> None:
    for number, checkpoint in enumerate(GOOD_CHECKPOINTS):
        assert folders(jvm, checkpoint).endswith("/model/0.json")
        if ":/" in checkpoint:
            continue
        own = f"{tmp_path}/{number}/{checkpoint}"
        path = jvm.jvm.org.apache.hadoop.fs.Path(own)
        files = path.getFileSystem(jvm.jvm.org.apache.hadoop.conf.Configuration())
        assert files.mkdirs(path)
        assert Path(own).resolve().is_dir()  # Path removes `name/..`


def test_hadoop_also_refuses_values_that_name_no_folder(jvm: JavaGateway) -> None:
    """Path accepts the other refused values, but they would fail later, or mean a folder named ~ or a host data."""
    asked = [value for value, text in WRONG_CHECKPOINTS if REFUSED_BY_PATH in text] + ["C:\\data", "a:b"]
    assert len(asked) >= 8
    assert [checkpoint for checkpoint in asked if is_taken(jvm, checkpoint)] == []
