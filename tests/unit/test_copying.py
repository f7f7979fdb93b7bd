"""A batch of the copy as ranges that an index scan can end: all of its keys, each once, in their order."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from schema_migrator.online.backfill import Range, ranges
from support.program.rehearsed import quickly

LETTERS = "abcd"


def holds(part: Range, key: tuple[str, ...]) -> bool:
    """Return whether a key is in a range."""
    count = len(part.same)
    value = key[count]
    above = part.above is None or value > part.above
    below = part.upto is None or value < part.upto or (part.included and value == part.upto)
    return key[:count] == part.same and above and below


@quickly
@given(data=st.data(), width=st.integers(1, 4))
def test_ranges_are_the_batch(data: st.DataObject, width: int) -> None:
    """They hold every key once, in order; below a common start no range is limited by more than one column."""
    keys = st.none() | st.tuples(*[st.sampled_from(LETTERS)] * width)
    after, upto = data.draw(keys), data.draw(keys)
    if after is not None and upto is not None and after >= upto:
        after, upto = (upto, after) if after != upto else (None, upto)
    parts = list(ranges(after, upto))
    every = list(product(LETTERS, repeat=width))
    found = [key for part in parts for key in every if holds(part, key)]
    assert found == [key for key in every if (after is None or key > after) and (upto is None or key <= upto)]


def test_a_batch_of_one_namespace_is_one_range() -> None:
    """As nearly all are: the scan ends where the batch does, and not where the namespace does."""
    assert list(ranges(["n", "a"], ["n", "b"])) == [Range(same=("n",), above="a", upto="b", included=True)]
    assert list(ranges(None, None)) == [Range()]
