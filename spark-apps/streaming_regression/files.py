"""Files of the checkpoint, in any file system that Hadoop supports (a PVC, HDFS, S3)."""

from __future__ import annotations

from py4j.java_gateway import JavaObject, JVMView
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from streaming_regression.errors import ConfigError, Refused

JAVA_ERRORS = (Py4JJavaError, PySparkException)
"""Exceptions of a call into Java: PySpark converts some, such as IllegalArgumentException, into its own."""
REMEDY = "restore the folder from a backup, or start a new run with another --checkpoint and --index-prefix"


class Files:
    """Reads and writes small files of a checkpoint, by their path in it. A file is written whole or not at all.

    On a local file system a file is synced before it is renamed, so that a power failure cannot leave half a file.
    """

    def __init__(self, jvm: JVMView, hadoop_conf: JavaObject, checkpoint: str) -> None:
        self._path = jvm.org.apache.hadoop.fs.Path
        self.checkpoint = checkpoint
        try:
            self._root = self._path(checkpoint)
            # A separate instance that writes no checksum files: a file and its checksum cannot be renamed in one step.
            self._fs = jvm.org.apache.hadoop.fs.FileSystem.newInstance(self._root.toUri(), hadoop_conf)
            self._fs.setWriteChecksum(False)
        except JAVA_ERRORS as error:
            raise self.unusable(error) from error

    @property
    def local(self) -> bool:
        """Whether the checkpoint is in a file system of this machine, including mounted ones."""
        return bool(self._fs.getUri().getScheme() == "file")

    def unusable(self, error: Exception) -> ConfigError:
        """Return the error for a checkpoint in which no file can be written, or whose file system does not answer."""
        return ConfigError(
            f"--checkpoint / CHECKPOINT: {self.checkpoint} cannot be used: {java_message(error)}; use a folder or "
            "URI that is writable"
        )

    def full(self, name: str) -> str:
        """Return the full path of a file, for messages."""
        return str(self._at(name).toString())

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of this path."""
        return bool(self._fs.exists(self._at(name)))

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; none if there is no such folder."""
        if not self.exists(folder):
            return []
        return [status.getPath().getName() for status in self._fs.listStatus(self._at(folder))]

    def read(self, name: str) -> str | None:
        """Return the text of a file, None where there is none; Refused if it cannot be read."""
        try:
            if not self.exists(name):
                return None
            stream = self._fs.open(self._at(name))
            try:
                return bytes(stream.readAllBytes()).decode()
            finally:
                stream.close()
        except JAVA_ERRORS as error:
            raise Refused(
                f"{self.full(name)} of the checkpoint cannot be read: {java_message(error)}: {REMEDY}"
            ) from error

    def write(self, name: str, text: str) -> bool:
        """Write a new file under a temporary name and rename it; False if there is a file of that name already.

        Raises
        ------
        Py4JJavaError, PySparkException
            When it cannot be written.
        """
        if self.exists(name):  # on a local disk a rename would overwrite it
            return False
        folder, slash, last = name.rpartition("/")
        aside = f"{folder}{slash}.{last}.tmp"
        self.write_aside(aside, text)
        return bool(self._fs.rename(self._at(aside), self._at(name)))

    def write_aside(self, name: str, text: str) -> None:
        """Write a file under its own name: a reader may see half of it."""
        stream = self._fs.create(self._at(name), True)
        try:
            stream.write(text.encode())
            stream.hsync()
        finally:
            stream.close()

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        self._fs.delete(self._at(name), False)

    def _at(self, name: str) -> JavaObject:
        return self._path(self._root, name)


def java_message(error: Exception) -> str:
    """Return the first line of Java's message: that of the root cause, or its exception's name if it has no message."""
    if not isinstance(error, Py4JJavaError):
        return str(error).partition("\n")[0]
    cause = error.java_exception
    while (inner := cause.getCause()) is not None:
        cause = inner
    return str(cause.getMessage() or cause.toString()).partition("\n")[0]
