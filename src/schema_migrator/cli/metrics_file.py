"""The metrics file: what is known of a run, in Prometheus' text format, replaced as the run goes on."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema_migrator import events
from schema_migrator.config import values
from schema_migrator.config.fields import PREFIX
from schema_migrator.config.option_commands import MEASURED
from schema_migrator.errors import SettingsError
from schema_migrator.reports import metrics
from schema_migrator.reports.metrics import RunMetrics

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

_FILE, _LABELS = f"{PREFIX}METRICS_FILE", f"{PREFIX}METRICS_LABELS"
_PAUSE_SECONDS = 1.0
_LAST_SECONDS = 5.0  # for the last write: a file system that hangs must not keep the process


class MetricsFile:
    """Collects a run's metrics from its events, and writes them from a thread of its own.

    An event can be logged while a table is locked, so nothing that logs one waits for the file system.
    """

    def __init__(self, path: Path, run: RunMetrics, labels: Mapping[str, str]) -> None:
        self._path = path
        self._run = run
        self._labels = {"command": run.command, **labels}
        self._lock = threading.Lock()
        self._changed, self._closed = threading.Event(), threading.Event()
        self._writer = threading.Thread(target=self._keep_writing, name="metrics", daemon=True)

    def open(self) -> None:
        """Write the file for the first time, and start the thread. Raises SettingsError if it cannot be written."""
        try:
            self._write()
        except OSError as error:
            raise SettingsError(
                f'the metrics file "{self._path}" cannot be written ({error.strerror})', hint=f"correct {_FILE}"
            ) from None
        self._writer.start()

    def note(self, event: Mapping[str, Any]) -> None:
        """Take note of an event; from any thread."""
        with self._lock:
            before, self._run = self._run, metrics.after(self._run, event)
            if self._run is not before:
                self._changed.set()

    def close(self, code: int) -> None:
        """Write how the run ended, if that takes no longer than a few seconds."""
        with self._lock:
            self._run = metrics.ended(self._run, code, time.time())
        self._closed.set()
        self._changed.set()
        self._writer.join(_LAST_SECONDS)

    def _keep_writing(self) -> None:
        told = False
        while not self._closed.is_set():
            self._changed.wait()
            self._changed.clear()
            try:
                self._write()
            except OSError as error:  # the run is more important than its metrics
                if not told:
                    events.logger().warning("metrics.unwritten", file=str(self._path), reason=error.strerror)
                told = True
            self._closed.wait(_PAUSE_SECONDS)
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        from prometheus_client import CollectorRegistry, write_to_textfile  # noqa: PLC0415 - few runs need it

        if os.path.lexists(self._path) and (self._path.is_symlink() or not self._path.is_file()):
            raise OSError(errno.EEXIST, "there is something other than a regular file")  # a device, a pipe, /dev/stdout
        registry = CollectorRegistry()
        registry.register(self)
        write_to_textfile(str(self._path), registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics in the library's form, as it asks for them."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see _write

        with self._lock:
            run = self._run
        for metric in metrics.metrics(run, time.time()):
            family = GaugeMetricFamily(metric.name, metric.meaning)
            for labels, value in metric.samples:
                family.add_sample(metric.name, {**self._labels, **labels}, value)
            yield family


def begin(arguments: Mapping[str, Any], stack: ExitStack) -> Callable[[int], None]:
    """Open the metrics file if one is asked for, and observe the events until the stack is closed.

    Return what closes the file, given the exit code. A run with wrong settings has a file as well, so the settings are
    not read yet: only what is needed here. Raises SettingsError if the file cannot be written.
    """
    path = str(arguments.get(_FILE) or os.environ.get(_FILE) or "").strip()
    command = str(arguments.get("command"))
    if not path or command not in MEASURED:
        return lambda _: None
    file = MetricsFile(Path(path), RunMetrics(command=command, started=time.time()), _labels(arguments))
    file.open()
    stack.enter_context(events.observed(file.note))
    return file.close


def _labels(arguments: Mapping[str, Any]) -> dict[str, str]:
    text = str(arguments.get(_LABELS) or os.environ.get(_LABELS) or "").strip()
    with suppress(ValueError):  # the command itself refuses them, also bytes that are no UTF-8
        text.encode()
        return dict(values.labels(text)) if text else {}  # type: ignore[call-overload]  # pairs, of a text
    return {}
