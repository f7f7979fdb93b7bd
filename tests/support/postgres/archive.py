"""A server that archives its WAL, a base backup of it, and point-in-time restores from both."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from schema_migrator.demo.embedded_postgres import (
    Server,
    give,
    give_tree,
    private_server,
    start_on_free_port,
    stop_if_running,
    wheel_bindir,
)
from support.postgres.engine import Engine
from support.waiting import await_true

SETTINGS = {
    "archive_mode": "on",
    "archive_command": "cp %p ../archive/%f",
    "wal_level": "replica",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Archiving:
    """A server whose WAL is kept in a folder beside its data."""

    engine: Engine
    server: Server

    @property
    def home(self) -> Path:
        """The folder of data, archive and base backup."""
        return self.server.datadir.parent

    def back_up(self) -> None:
        """Take the base backup, with the wheel's program: a newer one backs up an older server too."""
        target = {"-h": self.server.host, "-p": str(self.server.port), "-U": self.server.user, "-D": str(self._base)}
        words = [word for pair in target.items() for word in pair]
        environment = {"PGPASSWORD": self.server.password}
        program = wheel_bindir() / "pg_basebackup"
        subprocess.run([program, *words, "-c", "fast", "--no-sync"], env=environment, check=True)
        give_tree(self._base, self.server.account)

    @contextmanager
    def restored(self, **target: str) -> Iterator[Engine]:
        """Replay the archive on the base backup up to a target: settings without `recovery_`. The server is stopped."""
        self.server.stop("fast")  # which archives the last segment
        data = self.home / "restored"
        shutil.copytree(self._base, data)
        (data / "recovery.signal").touch()
        give_tree(data, self.server.account)
        made = start_on_free_port(replace(self.server, datadir=data), recovery(target))
        try:
            engine = replace(self.engine, port=made.port)
            await_true(lambda: promoted(engine))
            yield engine
        finally:
            stop_if_running(made)
            self.server.start()

    @property
    def _base(self) -> Path:
        return self.home / "base"


def recovery(target: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a server that replays the archive up to a target, and goes on from there."""
    own = {f"recovery_{name}": value for name, value in target.items()}
    return {"fsync": "off", "restore_command": "cp ../archive/%f %p", "recovery_target_action": "promote", **own}


def promoted(engine: Engine) -> bool:
    """Return whether a server has reached its target."""
    with engine.connect() as admin:
        return admin.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


@contextmanager
def archiving(bindir: Path | None = None) -> Iterator[Archiving]:
    """Start a server that archives; `bindir`: the folder of other programs than the wheel's."""
    with private_server(settings=SETTINGS, bindir=bindir) as server:
        archive = server.datadir.parent / "archive"
        archive.mkdir()
        give(archive, server.account)
        yield Archiving(engine=Engine.of(server), server=server)
