"""Runs the images in containers beside a PostgreSQL's."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from support.postgres.databases import Databases
from support.program.command import Completed

SERVER = os.environ.get("SCHEMA_MIGRATOR_TEST_IMAGE") or "postgres:17"
IMAGE = os.environ.get("SCHEMA_MIGRATOR_TEST_OURS") or "temporal-schema-migrator:dev"
TOOLS_IMAGE = f"{IMAGE}-tools"
RESTRICTED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
"""What the restricted pod security standard asks for, and a root file system that cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image under test; its containers share the network of the server, which trusts nobody but 127.0.0.1."""

    name: str
    client: Any
    network: str
    host: str

    def environment(self, databases: Databases, **more: str) -> dict[str, str]:
        """Return the variables for a test's databases, without those of this machine."""
        kept = ("SQL_USER", "SQL_PASSWORD", "DEFAULT_SQL_DATABASE", "VISIBILITY_SQL_DATABASE")
        given = {name: value for name, value in databases.env().items() if name in kept}
        return given | {"SQL_HOST": self.host, "SQL_PORT": "5432"} | more

    def run(self, env: Mapping[str, str], *args: str, **options: object) -> Completed:
        """Run a container to its end."""
        with self.started(env, *args, **options) as container:
            return self.finish(container)

    @contextmanager
    def started(self, env: Mapping[str, str], *args: str, **options: object) -> Iterator[Any]:
        """Run a container during the block."""
        container = self.client.containers.run(
            self.name,
            list(args) or None,
            environment=dict(env),
            network_mode=self.network,
            detach=True,
            **{**RESTRICTED, **options},
        )
        try:
            yield container
        finally:
            container.remove(force=True)

    def python(self, code: str) -> str:
        """Return what Python code prints in the image, as root."""
        done = self.run({}, "-c", code, entrypoint="python", user="0:0")
        assert done.code == 0, done.stderr
        return done.stdout

    def finish(self, container: Any) -> Completed:  # noqa: ANN401 - docker has no types
        """Wait for a container's end."""
        code = container.wait(timeout=120)["StatusCode"]
        stdout, stderr = (container.logs(stdout=out, stderr=not out).decode() for out in (True, False))
        return Completed(code=code, stdout=stdout, stderr=stderr)
