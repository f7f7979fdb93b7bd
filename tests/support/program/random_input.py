"""Random input: values of settings, URIs, manifests and SQL files, with a secret wherever one belongs."""

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from schema_migrator.config.options import all_options, flag_of
from support.postgres.databases import RELEASES

SECRET = "q7Zk"
VARIABLES = sorted(option.variable for option in all_options())
# What would run a program, write a file, or wait for an answer is given fixed values alone.
FIXED = {
    "PASSWORD_COMMAND": ("/no/such/program x", "'", "", "/bin/false", "{", '{"command": "/bin/false", "timeout": "1"}'),
    "SQL_AUTH": ("", "x", "AWS"),
    "SQL_TOOL": ("/no/such/tool", "/"),
    "TERMINATION_LOG": ("/no/such/log", "/"),
    "METRICS_FILE": ("/no/such/folder/metrics.prom", "/", ""),
    "WAIT_TIMEOUT": ("0", "-1", "1e308", "nan", "x"),
    "SOURCES": ("/no/such/folder", "/dev/null", "/proc"),
}
ODD = (
    *("", " ", "0", "-1", "1e308", "nan", "9" * 5000, "1." + "9" * 5000, "true", "json", "text", "*", "${HOST}", "\n"),
    *("default", "visibility", "default,visibility", "1.19", "v1.0", "/dev/zero", "/dev/null", "/", "/proc/self/mem"),
    *(
        "tcp://10.0.0.1:5432",
        "[::1]",
        "::1",
        "a,b",
        "a:1,b:2",
        "\udcff",
        "é" * 70,
        "connect_timeout=5",
        "a" * 300,
        "256MB",
        "off",
        "1e9GB",
    ),
    *("sslmode=require", "a=b&a=c", "&", "host=x", "%", "%zz=1", "options=-c%20x", "x" * 5000),
)
LETTERS = st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
TEXT = st.one_of(st.sampled_from(ODD), st.text(LETTERS, max_size=20))
MANY = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.sampled_from(["\ud800", "a\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYS = ("CurrVersion", "MinCompatibleVersion", "Description", "SchemaUpdateCqlFiles", "AllowNoCqlFiles")
MANIFEST = json.loads((RELEASES / "1.29.1/postgresql/v12/visibility/versioned/v1.0/manifest.json").read_bytes())


PIECES = st.sampled_from(
    [
        *(
            "CREATE TABLE a (b int)",
            "COMMIT",
            "BEGIN",
            "rollback",
            "END",
            "SET x = 1",
            "SELECT 1",
            "DO ",
            "AS ",
            "DECLARE",
        ),
        *(
            ";",
            "'",
            "''",
            '"',
            "$$",
            "$a$",
            "--",
            "\n",
            "/*",
            "*/",
            "E'\\",
            "(",
            ")",
            "CASE WHEN",
            "\ufeff",
            "é",
            " ",
            "\\!",
        ),
        *(
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql ",
            "IF ",
            "LOOP ",
            "CONCURRENTLY",
            "CREATE INDEX CONCURRENTLY a ON b (c)",
        ),
    ]
)
SQL = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)


def value_of(variable: str) -> st.SearchStrategy[str]:
    """Return values for a variable, secrets where they belong."""
    fixed = next((values for end, values in FIXED.items() if variable.endswith(end)), None)
    if fixed is not None:
        return st.sampled_from(fixed)
    if variable.endswith(("SQL_PASSWORD", "API_KEY")):
        return st.tuples(TEXT, TEXT).map(SECRET.join)
    return uris() if variable.endswith(("_URI", "REHEARSE_ON")) else TEXT


def uris() -> st.SearchStrategy[str]:
    """Return connection URIs, with passwords that are escaped or not."""
    part = st.text(st.sampled_from("abc019/:@?#%&=[]., +é"), max_size=6)
    secret = st.tuples(part, part).map(SECRET.join)
    scheme = st.sampled_from(["postgresql://", "postgres://", "postgres:", "", "mysql://", "POSTGRESQL://"])
    rest = st.sampled_from(["@h/d", "@h:5432/d", "@[::1]/d", "@a,b:1,2/d", "@h/d?sslmode=require", "@h/d?x=y", "@"])
    return st.tuples(scheme, part, st.just(":"), secret, rest, st.sampled_from(["", "&a=b", "?nix=1", "#x"])).map(
        "".join
    )


def assignments(most: int) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Return variables with values."""
    one = st.sampled_from(VARIABLES).flatmap(lambda name: st.tuples(st.just(name), value_of(name)))
    return st.lists(one, max_size=most)


def flags(given: list[tuple[str, str]], *, joined: bool) -> list[str]:
    """Return the same as flags."""
    pairs = [(flag_of(name), value) for name, value in given]
    return [f"{f}={v}" for f, v in pairs] if joined else [word for pair in pairs for word in pair]
