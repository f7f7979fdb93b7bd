"""Flux' controllers on this machine, for the cluster of the current kubeconfig, and a repository of our chart."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.kubernetes.helm import CHART, helm
from support.postgres.watcher import dies_with_us
from support.temporal.frontends import free_port

LOCAL = "127.0.0.1"
SOURCE, HELM = ("SCHEMA_MIGRATOR_TEST_SOURCE_CONTROLLER", "SCHEMA_MIGRATOR_TEST_HELM_CONTROLLER")
"""The variables that say where the controllers are; `make test-e2e` builds both."""


@contextmanager
def controllers(folder: Path) -> Iterator[None]:
    """Run the source controller and the helm controller during the block; their logs and files are in a folder."""
    storage, archive = folder / "storage", f"{LOCAL}:{free_port()}"
    storage.mkdir(parents=True)
    source = (f"--storage-path={storage}", f"--storage-addr={archive}", f"--storage-adv-addr={archive}")
    with ExitStack() as stack:
        stack.enter_context(controller(os.environ[SOURCE], folder / "source.log", *source))
        stack.enter_context(controller(os.environ[HELM], folder / "helm.log"))
        yield


@contextmanager
def controller(program: str, log: Path, *args: str) -> Iterator[None]:
    """Run a controller during the block."""
    places = [f"--{name}={LOCAL}:{free_port()}" for name in ("metrics-addr", "health-addr")]
    command = dies_with_us(program, *args, *places, "--watch-all-namespaces", "--events-addr=", "--log-level=info")
    env = {**os.environ, "RUNTIME_NAMESPACE": "default", "HELM_CACHE_HOME": str(log.with_suffix(".cache"))}
    with log.open("wb") as sink, subprocess.Popen(command, env=env, stdout=sink, stderr=sink) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def chart_repository(folder: Path) -> Iterator[str]:
    """Serve our chart from a repository during the block; yield its URL."""
    for done in (helm("package", str(CHART), "--destination", str(folder)), helm("repo", "index", str(folder))):
        assert done.returncode == 0, done.stderr
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer((LOCAL, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{LOCAL}:{server.server_address[1]}"
        finally:
            server.shutdown()
