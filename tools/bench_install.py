"""An installation by the vendor's tool and by ours, alternately on one server.

Each pair of runs has fresh databases: first the installation, then the same commands again with nothing
to do. Round trips are counted, and delayed, by the proxy of the tests; without a delay the clients
connect straight to the server, since the proxy itself would cost the vendor's many round trips more.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import TypeAlias

import install_page
from install_page import INSTALL, JOBS, NOTHING, PROVE, Case, Pair, Result, Sample
from schema_migrator.demo.embedded_postgres import private_server
from support.postgres.databases import RELEASES, Databases, fresh
from support.postgres.engine import Engine
from support.postgres.proxy import Options, Proxy
from support.vendor.tool import FOLDERS, VendorTool, binary

VERSIONS = ("1.29.1", "1.32.2")
DELAYS = (0.0, 0.01)
ROOT = RELEASES.parent
OURS = Path(sys.executable).with_name("schema-migrator")
IMPORTS = """
import gc, rich.table, structlog
import schema_migrator.cli.main, schema_migrator.commands.migrate, schema_migrator.reports.report
gc.freeze()
"""
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


class BenchError(Exception):
    """A command that was to be measured failed; the text is what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with its arguments and its whole environment."""

    words: tuple[str, ...]
    env: Mapping[str, str]


Commands: TypeAlias = Callable[[Databases], list[Command]]


def compile_ours() -> None:
    """Compile our modules, as an installed wheel's are; the dependencies were compiled by `make setup`."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "src")], check=True)


@contextmanager
def server(*, durable: bool) -> Iterator[Engine]:
    """Start the embedded PostgreSQL."""
    with private_server(settings={"max_connections": "200", **(DURABLE if durable else {})}) as started:
        yield Engine.of(started)


def installations(repetitions: int, *, durable: bool) -> install_page.Installations:
    """Measure it all."""
    compile_ours()
    with server(durable=durable) as engine:
        about = facts(engine) | {"repetitions": str(repetitions)}
        return install_page.Installations(about=about, results=measure(engine, repetitions), startup=startup())


def facts(engine: Engine) -> dict[str, str]:
    """Return what the figures depend on."""
    with engine.connect() as conn:
        row = conn.execute("SELECT split_part(version(), ' ', 2), current_setting('fsync')").fetchone()
    postgres, fsync = row or ("", "")
    ours = subprocess.run([str(OURS), "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "ours": ours,
        "vendor": f"temporal-sql-tool of {' and '.join(VERSIONS)}",
        "PostgreSQL": f"{postgres}, fsync {fsync}, on the same machine",
        "Python": sys.version.split()[0],
        "CPUs": str(os.cpu_count()),
    }


def measure(engine: Engine, repetitions: int) -> tuple[Result, ...]:
    """Run everything, the warm-up and then the repetitions, with the first place changing each time."""
    pairs: dict[Case, list[Pair]] = {}
    for turn, (release, delay) in product(range(repetitions + 1), product(VERSIONS, DELAYS)):
        for job, pair in pairs_of(engine, release, delay, vendor_first=bool(turn % 2)):
            pairs.setdefault(Case(release=release, job=job, delay=delay), []).append(pair)
        print("." if turn else "w", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    cases = sorted(pairs, key=lambda case: (case.release, JOBS.index(case.job), case.delay))
    return tuple(Result(case=case, pairs=tuple(pairs[case][1:])) for case in cases)


def pairs_of(engine: Engine, release: str, delay: float, *, vendor_first: bool) -> Iterator[tuple[str, Pair]]:
    """Measure each job of both tools once; the vendor's installation is compared with ours of both kinds."""
    tools = {
        "vendor": partial(vendor_commands, release),
        "ours": partial(our_commands, release, options=("--no-verify",)),
        "proven": partial(our_commands, release),
    }
    order = list(tools) if vendor_first else list(reversed(tools))
    found = {tool: samples(engine, tools[tool], delay) for tool in order}
    (install, nothing), (proven, _), vendor = found["ours"], found["proven"], found["vendor"]
    for job, ours in ((INSTALL, install), (PROVE, proven)):
        yield job, Pair(ours=ours, vendor=vendor[0])
    yield NOTHING, Pair(ours=nothing, vendor=vendor[1])


def startup(times: int = 7) -> float:
    """Return the seconds that Python takes to start with our modules, the median of several times."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        found.append(time.perf_counter() - began)
    return median(found)


def vendor_commands(release: str, databases: Databases) -> list[Command]:
    """Return the four commands of the vendor's chart: setup and update of each store."""
    tool = VendorTool(version=release, databases=databases)
    found = []
    for store, folder in FOLDERS.items():
        schema = RELEASES / release / "postgresql" / "v12" / folder / "versioned"
        both = (("setup-schema", "-v", "0.0"), ("update-schema", "-d", str(schema)))
        found += [Command(words=(str(binary(release)), *words), env=tool.environment(store)) for words in both]
    return found


def our_commands(release: str, databases: Databases, options: tuple[str, ...] = ()) -> list[Command]:
    """Return our one command, through the script that is installed with the package."""
    env = {**databases.env(), "TEMPORAL_VERSION": release}
    return [Command(words=(str(OURS), "migrate", *options), env=env)]


def samples(engine: Engine, commands: Commands, delay: float) -> list[Sample]:
    """Measure an installation into fresh databases, and the same commands once more."""
    with fresh(engine) as databases:
        return [sample(databases, commands, delay) for _ in (INSTALL, NOTHING)]


def sample(databases: Databases, commands: Commands, delay: float) -> Sample:
    """Run the commands one after the other and measure them as one."""
    with ExitStack() as stack:
        proxy = None
        if delay:
            options = Options(host=databases.host, port=databases.port, delay=delay)
            proxy = stack.enter_context(Proxy(options))
            databases = databases.via(proxy.port)
        ready = commands(databases)
        began = time.perf_counter()
        memory = max(run(command) for command in ready)
        seconds = time.perf_counter() - began
        return Sample(seconds=seconds, memory=memory, round_trips=proxy.stats.round_trips if proxy else None)


def run(command: Command) -> int:
    """Run to the end; return the peak of its memory in bytes.

    Linux counts the moment before exec too, when the child still is this process: what is smaller than
    this process cannot be seen. Raises BenchError.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command.words, env=dict(command.env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise BenchError(f"{' '.join(command.words)} ended with {process.returncode}: {output.read()}")
    return usage.ru_maxrss * 1024
