"""The memory of a program is its own, whatever the tests themselves take."""

import subprocess
import sys

import pytest

from support.program.memory import peak

MEGABYTE = 1024 * 1024


def python(statement: str) -> int:
    """Return the peak of a bare Python that runs this."""
    return peak([sys.executable, "-I", "-S", "-c", statement], env={})


def test_ours_is_not_counted() -> None:
    """A program that does nothing takes little, although its starter's starter is large."""
    ballast = bytearray(200 * MEGABYTE)
    assert MEGABYTE < python("pass") < 40 * MEGABYTE
    assert len(ballast) == 200 * MEGABYTE


def test_the_peak_is_seen() -> None:
    """What a program took and gave back before its end is counted."""
    assert python(f"taken = b'x' * {100 * MEGABYTE}; del taken") > 100 * MEGABYTE


def test_a_failure_is_none_of_a_small_program() -> None:
    """A program that fails is not taken for one that needs little."""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        python("raise SystemExit(3)")
    assert failed.value.returncode == 3
