"""The faults by hand still have their place in the code; whether tests find them, `make sabotages` tells."""

import pytest

from support.sabotages import SOURCE, Sabotage, sabotages


@pytest.mark.parametrize("sabotage", sabotages(), ids=lambda sabotage: sabotage.what)
def test_it_can_be_planted(sabotage: Sabotage) -> None:
    """Its text is in the file once, and what takes its place is Python."""
    compile(sabotage.planted(SOURCE), sabotage.file, "exec")


def test_each_is_another() -> None:
    """No two faults have one name, and none leaves the code as it is."""
    found = sabotages()
    assert len({sabotage.what for sabotage in found}) == len(found) >= 60
    assert all(sabotage.old != sabotage.new for sabotage in found)
