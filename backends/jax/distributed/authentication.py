"""How the processes of a training know each other: by a secret that they share, which is never sent.

Both ends prove by an HMAC over fresh random numbers of both that they have it (as in RFC 2104 and ISO/IEC 9798-4). What
is sent before is of a fixed length and never parsed. What is said afterwards is neither signed nor encrypted.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import stat
import time
from pathlib import Path
from typing import Final

from cnnc.diagnostics import CnnError
from cnnc.wording import reason_of

SWITCH: Final = "CNNC_SECRET"
MAGIC: Final = b"cnnc hub"
_NUMBER: Final = 32
HELLO: Final = len(MAGIC) + _NUMBER
"""Bytes that the hub sends first: that it is one, and its random number."""
ANSWER: Final = 2 * _NUMBER
"""Bytes of a process's answer: its random number and its proof."""
NO_PROOF: Final = bytes(_NUMBER)
"""The answer of a hub, in place of its own proof, to a stranger."""
_SHORTEST: Final = 16


class Mistrusted(Exception):
    """The other end has a different secret, or is no hub."""


def secret() -> bytes:
    """The secret of `CNNC_SECRET`, or else the user's own, which is made when it is first wanted.

    Raises:
        CnnError: of code `process` where it is too short, readable by others, or cannot be had.
    """
    said = os.environ.get(SWITCH)
    if said is None:
        return _own(user_file())
    if len(said) < _SHORTEST:
        raise CnnError.of(
            "process",
            f"`{SWITCH}` has {len(said)} characters, and at least {_SHORTEST} are wanted",
            help=f"export {SWITCH}=$(openssl rand -hex 32), the same for all processes",
        )
    return said.encode(errors="surrogateescape")


def user_file() -> Path:
    """Where a user's own secret lies."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "cnnc" / "secret"


def hello() -> bytes:
    """The greeting of a hub to whoever connects."""
    return MAGIC + secrets.token_bytes(_NUMBER)


def is_known(shared: bytes, said: bytes, answer: bytes) -> bool:
    """Whether an answer to a `hello` proves that its sender has the secret."""
    return hmac.compare_digest(answer[_NUMBER:], _proof(shared, b"process", said, answer[:_NUMBER]))


def reply(shared: bytes, said: bytes, answer: bytes) -> bytes:
    """A hub's own proof to a process that is known."""
    return _proof(shared, b"hub", said, answer[:_NUMBER])


def greet(connection: socket.socket, shared: bytes, deadline: float) -> None:
    """Prove to a hub that this is one of its processes, and have it prove itself.

    Args:
        connection: just opened.
        shared: the secret.
        deadline: of `time.monotonic`, until when the hub must have said all.

    Raises:
        Mistrusted: it is no hub, or of another secret.
        OSError: the connection closed, or nothing came in time.
    """
    said = _received(connection, HELLO, deadline)
    if said[: len(MAGIC)] != MAGIC:
        raise Mistrusted("what listens there is not a training")
    number = secrets.token_bytes(_NUMBER)
    connection.sendall(number + _proof(shared, b"process", said, number))
    proof = _received(connection, _NUMBER, deadline)
    if not hmac.compare_digest(proof, _proof(shared, b"hub", said, number)):
        raise Mistrusted("the training there has a different secret")


def _proof(shared: bytes, role: bytes, said: bytes, number: bytes) -> bytes:
    return hmac.digest(shared, role + said + number, "sha256")


def _received(connection: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionResetError(None, "it closed the connection")
        data += part
    return data


def _own(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        found = path.stat()
        if os.name == "posix" and (found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077):
            raise CnnError.of(
                "process", f"others may read `{path}`, the secret of your trainings", help=f"chmod 600 {path}"
            )
        content = path.read_bytes().strip()
    except OSError as error:
        raise CnnError.of(
            "process",
            f"cannot keep a secret in `{path}`: {reason_of(error)}",
            help=f"give one to all processes: export {SWITCH}=$(openssl rand -hex 32)",
        ) from error
    if len(content) < _SHORTEST:
        raise CnnError.of("process", f"`{path}` holds no secret", help="delete it: another is made")
    return content


def _make(path: Path) -> None:
    """Put a new secret in place, unless another process does so first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secrets.token_hex(32)}\n")
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
