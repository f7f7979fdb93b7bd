import json
import sys
from pathlib import Path

import pytest

from schema_migrator.config import password_commands
from schema_migrator.config.settings import read
from schema_migrator.errors import SettingsError
from support.postgres.databases import AWKWARD

pytestmark = pytest.mark.usefixtures("clean")

SECRET = "s3cret-\N{SNOWMAN}"


def password(patch: pytest.MonkeyPatch, variables: dict[str, str], store: int = 0, **flags: str) -> str | None:
    """Return the password of a store."""
    for name, value in variables.items():
        patch.setenv(name, value)
    return read(flags).stores[store].password()


def refused(patch: pytest.MonkeyPatch, variables: dict[str, str], **flags: str) -> str:
    """Return why there is no password; never with the secret in it or behind it."""
    with pytest.raises(SettingsError) as caught:
        password(patch, variables, **flags)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
    return str(caught.value)


def command(code: str) -> str:
    """Return a command line that runs Python code without double quotes."""
    return f'{sys.executable} -c "{code}"'


def test_none_at_all(clean: pytest.MonkeyPatch) -> None:
    """Without a password libpq looks for its own (.pgpass, PGPASSWORD)."""
    assert password(clean, {}) is None


@pytest.mark.parametrize("text", [AWKWARD, " blanks ", "a\\b'c\"d", "ünïcode☃", "$(x) `y` %s {z}", "line\rfeed\nin it"])
def test_any_characters(clean: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """A password is taken as it is from a variable, a file or a command."""
    file = tmp_path / "password"
    file.write_bytes(text.encode())
    assert password(clean, {"SQL_PASSWORD": text}) == text
    clean.delenv("SQL_PASSWORD")
    assert password(clean, {"SQL_PASSWORD_FILE": str(file)}) == text
    clean.delenv("SQL_PASSWORD_FILE")
    assert password(clean, {"SQL_PASSWORD_COMMAND": f"cat '{file}'"}) == text


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_last_line_break_is_none_of_it(clean: pytest.MonkeyPatch, tmp_path: Path, end: str) -> None:
    """Editors and commands end a line; no password ends with that."""
    file = tmp_path / "password"
    file.write_bytes(f"{SECRET}{end}".encode())
    assert password(clean, {"SQL_PASSWORD_FILE": str(file)}) == SECRET
    clean.delenv("SQL_PASSWORD_FILE")
    assert password(clean, {"SQL_PASSWORD_COMMAND": f"cat '{file}'"}) == SECRET


def test_command_runs_without_a_shell(clean: pytest.MonkeyPatch) -> None:
    """Quotes group words, and nothing else is special."""
    assert password(clean, {"SQL_PASSWORD_COMMAND": "printf '%s|%s' 'a b' $HOME;x"}) == "a b|$HOME;x"


def test_asked_for_anew(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A token that changes is read again at every connection."""
    file = tmp_path / "token"
    clean.setenv("SQL_PASSWORD_FILE", str(file))
    store = read({}).stores[0]
    file.write_text("one")
    assert store.password() == "one"
    file.write_text("two")
    assert store.password() == "two"


def test_a_stores_own_beats_the_common_one(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However it is given: a store's file beats the common variable, a flag's file the variable."""
    file = tmp_path / "password"
    file.write_text("from file")
    assert password(clean, {"SQL_PASSWORD": "x", "VISIBILITY_SQL_PASSWORD_FILE": str(file)}, store=1) == "from file"
    assert password(clean, {}, store=0) == "x"
    assert password(clean, {}, store=0, SQL_PASSWORD_FILE=str(file)) == "from file"


def test_refuses_two_of_one_kind(clean: pytest.MonkeyPatch) -> None:
    """Two ways at one place leave open which counts."""
    found = refused(clean, {"SQL_PASSWORD": SECRET, "SQL_PASSWORD_COMMAND": "x"})
    assert found == "SQL_PASSWORD and SQL_PASSWORD_COMMAND are both set, expected one of them; unset the others"


def test_refuses_bytes_that_are_no_text(clean: pytest.MonkeyPatch) -> None:
    """A variable in another encoding is refused without being shown."""
    clean.setenv("SQL_PASSWORD", b"s3cret\xff".decode(errors="surrogateescape"))
    found = refused(clean, {})
    assert found == "SQL_PASSWORD cannot be used, expected UTF-8 text"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\n", "gives no password"),
        (SECRET.encode() + b"\0", "gives a zero byte"),
        (SECRET.encode() + b"\xff", "is not UTF-8 text"),
        (SECRET.encode() * 9000, "has more than 65536 bytes"),
    ],
)
def test_refuses_files(clean: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A file that is missing, empty, no text or far too large is named, its content never."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    found = refused(clean, {"SQL_PASSWORD_FILE": str(file)})
    assert found == f'default: the password file "{file}" {reason}; correct SQL_PASSWORD_FILE'


BY_HAND = "; run it by hand and read its output"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("''", " is empty; correct SQL_PASSWORD_COMMAND"),
        ("# nothing", ' cannot run "#" (No such file or directory); correct SQL_PASSWORD_COMMAND'),
        ("/no/such --x", ' cannot run "/no/such" (No such file or directory); correct SQL_PASSWORD_COMMAND'),
        ("cat 'x", " is not a command line (no closing quotation); correct SQL_PASSWORD_COMMAND"),
        ("true", " gives no password; correct SQL_PASSWORD_COMMAND"),
        (command(f"print('{SECRET}'); exit(3)"), f': "{sys.executable}" failed with exit code 3{BY_HAND}'),
        (
            command(f"import sys; print('{SECRET}', file=sys.stderr); exit(1)"),
            f': "{sys.executable}" failed with exit code 1{BY_HAND}',
        ),
    ],
)
def test_refuses_commands(clean: pytest.MonkeyPatch, line: str, reason: str) -> None:
    """A command that cannot be run or fails is named, what it printed never."""
    assert refused(clean, {"SQL_PASSWORD_COMMAND": line}) == f"default: SQL_PASSWORD_COMMAND{reason}"


def test_refuses_a_slow_command(clean: pytest.MonkeyPatch) -> None:
    """A command that hangs is ended."""
    clean.setattr(password_commands, "SECONDS", 0.2)
    found = refused(clean, {"SQL_PASSWORD_COMMAND": "sleep 60"})
    assert found == f'default: SQL_PASSWORD_COMMAND: "sleep" ran longer than 0.2 s{BY_HAND}'


def test_is_masked_in_a_representation(clean: pytest.MonkeyPatch) -> None:
    """Printing the settings, as a debugger or a traceback may, shows no password."""
    clean.setenv("SQL_PASSWORD", SECRET)
    assert SECRET not in repr(read({}))


def as_object(**fields: object) -> str:
    """Return a command in the form that the server's configuration has."""
    return json.dumps(fields)


def test_command_as_in_the_servers_configuration(clean: pytest.MonkeyPatch) -> None:
    """An object with command, args and timeout is understood as the server understands it; no shell either."""
    given = as_object(command="printf", args=["%s|%s\n", "a b", "$HOME"], timeout="1m30s")
    assert password(clean, {"SQL_PASSWORD_COMMAND": given}) == "a b|$HOME"
    assert password(clean, {"SQL_PASSWORD_COMMAND": as_object(command="hostname")})


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        ("10s", 10),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("1h0m.5s", 3600.5),
        ("", 30),
        ("0", 30),
        ("0s", 30),
        (0, 30),
        (None, 30),
    ],
)
def test_timeouts_as_go_writes_them(timeout: object, seconds: float) -> None:
    """None and zero are thirty seconds, as for the server."""
    found = password_commands.parse(as_object(command="x", timeout=timeout), "SQL_PASSWORD_COMMAND")
    assert found == password_commands.PasswordCommand(words=("x",), seconds=seconds)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "SQL_PASSWORD_COMMAND begins like an object, but is not JSON"),
        ("{command: x}", "SQL_PASSWORD_COMMAND begins like an object, but is not JSON"),
        (as_object(command="x", cmd=SECRET), 'SQL_PASSWORD_COMMAND has "cmd", expected command, args and timeout'),
        (as_object(args=[SECRET]), "SQL_PASSWORD_COMMAND has no command, expected the name of a program"),
        (as_object(command=["x"]), "SQL_PASSWORD_COMMAND has no command, expected the name of a program"),
        (as_object(command="x", args=SECRET), "args in SQL_PASSWORD_COMMAND cannot be used, expected a list of texts"),
        (as_object(command="x", args=[1]), "args in SQL_PASSWORD_COMMAND cannot be used, expected a list of texts"),
        (as_object(command="x", args=[f"{SECRET}\0"]), "SQL_PASSWORD_COMMAND has a zero byte"),
        (
            as_object(command="x", args=[f"{SECRET}\ud800"]),
            "SQL_PASSWORD_COMMAND has half of a surrogate pair, expected UTF-8 text",
        ),
        *(
            (
                as_object(command="x", timeout=timeout),
                "timeout in SQL_PASSWORD_COMMAND cannot be used, expected a duration such as 30s, at most 24h",
            )
            for timeout in ("30", "1d", "-5s", "30 s", 30, True, ["30s"], "24h1ns", f"{'9' * 400}h", "٣s")
        ),
        (
            as_object(command="/no/such", args=[SECRET]),
            'SQL_PASSWORD_COMMAND cannot run "/no/such" (No such file or directory)',
        ),
    ],
)
def test_refuses_objects(clean: pytest.MonkeyPatch, text: str, reason: str) -> None:
    """What the server would refuse or misread is named; arguments, which may be secret, never."""
    assert refused(clean, {"SQL_PASSWORD_COMMAND": text}) == f"default: {reason}; correct SQL_PASSWORD_COMMAND"


def test_refuses_a_slow_command_by_its_own_limit(clean: pytest.MonkeyPatch) -> None:
    """The object's timeout is the limit."""
    slow = as_object(command="sleep", args=["60"], timeout="200ms")
    found = refused(clean, {"SQL_PASSWORD_COMMAND": slow})
    assert found == f'default: SQL_PASSWORD_COMMAND: "sleep" ran longer than 0.2 s{BY_HAND}'
