"""Folders for sockets: those of processes that were killed are removed, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("jax")

from cnnc.backends.jax.distributed.socket_folder import make_socket_folder  # after JAX is known to be there

MAKE = """
from cnnc.backends.jax.distributed.socket_folder import make_socket_folder
import time
print(make_socket_folder(), flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    os.utime(folder, (time.time() - 3600,) * 2)


def test_the_folder_of_a_process_that_was_killed_goes_with_the_next_start(temporary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", MAKE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        (theirs / "jax").touch()
        age(theirs)
        own = make_socket_folder()
        assert theirs.is_dir()  # its process lives
        process.send_signal(signal.SIGKILL)
    age(own)
    make_socket_folder()
    assert not theirs.exists()
    assert own.is_dir()
    assert own.stat().st_mode & 0o077 == 0


def test_folders_that_were_just_made_or_are_links_stay(temporary: Path) -> None:
    new, aged, elsewhere = temporary / "cnnc-sockets-new", temporary / "cnnc-sockets-aged", temporary / "elsewhere"
    for folder in (new, aged, elsewhere):
        folder.mkdir()
        (folder / "jax").touch()
        age(folder)
    new.touch()
    (temporary / "cnnc-sockets-link").symlink_to(elsewhere)
    make_socket_folder()
    assert new.is_dir()
    assert not aged.exists()
    assert (elsewhere / "jax").exists()
