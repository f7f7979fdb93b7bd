import pytest

from schema_migrator.catalog.owners import search_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("temporal", ("temporal",)),
        ("Temporal, public", ("temporal", "public")),
        ('"Temporal"', ("Temporal",)),
        ('"$user", public', ("$user", "public")),
        ("$user,public", ("$user", "public")),
        ('"a, b" ,"c""d"', ("a, b", 'c"d')),
    ],
)
def test_read_as_postgresql_reads_it(text: str, names: tuple[str, ...]) -> None:
    """Names in quotes stand as they are, others in lower case."""
    assert search_path(text) == names
