"""Files in a process of their own: what ends LiteRT is a message, and nothing of the caller's ends with it."""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnc.backends.tflite.litert import process
from cnnc.backends.tflite.litert.interpreter import Array, Options, Refusal, receive, send
from cnnc.backends.tflite.litert.process import Remote
from cnnc.backends.tflite.litert.runner import open_model
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import ABSENT, File, Operator, Program
from cnnc.tflite_file.write import write_file
from tests.support.tflite_pictures import brightness, write
from tests.support.tflite_programs import constant, one_operator, tensor

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="files run in this process where there is no fork")


def without_weights() -> bytes:
    """A dense layer whose weights are absent, which LiteRT follows to address 0."""
    program = one_operator("FULLY_CONNECTED", [tensor("x", (1, 4)), None, None], tensor("y", (1, 2)))
    return write_file(File((program,)))


@pytest.mark.fault("S3")
def test_a_crash_of_litert_is_a_message_and_other_files_run_on(tmp_path: Path) -> None:
    runner = open_model(write(tmp_path / "m.tflite", brightness()))
    with pytest.raises(Refusal, match=r"LiteRT crashed while loading `bad\.tflite` \(SIGSEGV\)") as caught:
        Remote(without_weights(), Options("bad.tflite"))
    assert caught.value.code == "tflite"
    assert caught.value.help is not None
    assert runner({"picture": np.zeros((2, 8, 8, 3), np.float32)})["class"].shape == (2, 2)


@pytest.mark.fault("S3")
def test_the_operator_that_crashes_litert_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnc.tflite_file.read.faults", lambda program: ())  # it would be found before
    names = [tensor(name, (1, 4)) for name in "abcdef"]
    chain = [Operator("RELU", (x.name,), (y.name,)) for x, y in itertools.pairwise(names)]
    chain[2] = replace(chain[2], kind="FULLY_CONNECTED", inputs=("c", ABSENT, ABSENT))
    program = Program("main", {each.name: each for each in names}, tuple(chain), ("a",), ("f",))
    with pytest.raises(CnnError, match=r"crashed while loading .* \(SIGSEGV\) at operator 2, FULLY_CONNECTED"):
        open_model(write(tmp_path / "m.tflite", program))


def test_a_file_says_the_same_in_its_own_process_as_in_this_one(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype(np.float32)
    path = write(tmp_path / "m.tflite", brightness())
    far, near = (open_model(model, all_tensors=True) for model in (path, path.read_bytes()))
    for name in near.program.tensors:
        np.testing.assert_array_equal(
            far.tensors({"picture": pictures}, [name])[name], near.tensors({"picture": pictures}, [name])[name]
        )


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to write what makes an interpreter, in place of Google's module for Edge TPUs."""
    (tmp_path / "pycoral" / "utils").mkdir(parents=True)
    for name in ("", "utils"):
        (tmp_path / "pycoral" / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "pycoral" / "utils" / "edgetpu.py"


KILL = "import os, signal; os.kill(os.getpid(), signal.SIG{})"
ENDS = {
    "import time; time.sleep(60)": r"stopped: loading `m\.tflite` took more than 1 s",
    KILL.format("KILL"): "killed while loading `m.tflite`, by the system for lack of",
    KILL.format("TERM"): r"ended from outside while loading `m.tflite` \(SIGTERM\)",
    KILL.format("RTMIN + 1"): r"ended from outside .* \(signal \d+\)",
    KILL.format("BUS"): r"LiteRT crashed while loading `m.tflite` \(SIGBUS\)",
    "import os; os._exit(3)": r"LiteRT crashed while loading `m.tflite` \(exit status 3\)",
    "raise KeyError('odd')": r"LiteRT crashed while loading `m.tflite` \(exit status 1\)",
    "raise MemoryError": "`m.tflite` is refused by LiteRT: it needs more memory than there is",
    "import resource; raise ValueError(str(resource.getrlimit(resource.RLIMIT_CORE)[0]))": "refused by LiteRT: 0",
    "import resource; bytearray(resource.getrlimit(resource.RLIMIT_AS)[0])": "it needs more memory than there is",
    "import os; os.write(2, b'x' * (1 << 21)); raise ValueError('full')": "refused by LiteRT: full",
}


def test_the_operator_that_crashes_a_run_is_named(fake: Path, tmp_path: Path) -> None:
    fake.write_text(
        "import os\n"
        "from cnnc.tflite_file.flatbuffer import read\n"
        "def list_edge_tpus(): return [1]\n"
        "class make_interpreter:\n"
        "    def __init__(self, data):\n"
        "        self.count = len(read(data, 'Model', 'TFL3', '')['subgraphs'][0]['operators'])\n"
        "    def allocate_tensors(self): pass\n"
        "    def set_tensor(self, index, value): assert value.shape == (1, 8, 8, 3)\n"
        "    def invoke(self): self.count > 1 and os.abort()\n"
    )
    program = brightness()
    runner = open_model(write(tmp_path / "m.tflite", program), delegate="edgetpu")
    for _ in range(2):  # it stays so
        with pytest.raises(CnnError, match=rf"while running .* \(SIGABRT\) at operator 1, {program.operators[1].kind}"):
            runner({"picture": np.zeros((1, 8, 8, 3), np.float32)})


@pytest.mark.fault("S3")
@pytest.mark.parametrize("body", ENDS)
def test_whatever_ends_the_process_is_said(body: str, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"    {line}" for line in body.split("; ")]
    fake.write_text("def list_edge_tpus(): return [1]\ndef make_interpreter(data):\n" + "\n".join(lines))
    monkeypatch.setattr(process, "SECONDS", 1)
    with pytest.raises(Refusal, match=ENDS[body]) as caught:
        Remote(b"", Options("m.tflite", delegate="edgetpu"))
    if "KeyError" in body:
        assert caught.value.notes[-1] == "KeyError: 'odd'"


def test_ctrl_c_ends_what_runs_and_is_the_caller_s(fake: Path) -> None:
    fake.write_text("import os, signal\ndef list_edge_tpus(): os.kill(os.getpid(), signal.SIGINT)")
    with pytest.raises(KeyboardInterrupt):
        Remote(b"", Options("m.tflite", delegate="edgetpu"))


def test_an_answer_that_makes_no_sense_counts_as_a_crash(fake: Path) -> None:
    """As of a process whose memory a file has overwritten."""
    fake.write_text(
        "import __main__\n"
        "def list_edge_tpus():\n"
        "    __main__.json.dumps = lambda header: '{\"refusal\": 5}'\n"
        "    raise ValueError('any')"
    )
    with pytest.raises(Refusal, match=r"LiteRT crashed while loading `m\.tflite`"):
        Remote(b"", Options("m.tflite", delegate="edgetpu"))


def test_litert_s_errors_name_the_operator_first() -> None:
    wrong = one_operator("CONV_2D", [tensor("x", (1, 8, 8)), constant("w", np.zeros((4, 3, 3, 1), np.float32)), None],
                         tensor("y", (1, 8, 8, 4)), stride_w=1, stride_h=1)  # fmt: skip
    with pytest.raises(Refusal, match=r"is refused by LiteRT: operator 0, CONV_2D, failed to prepare: .*dims->size"):
        Remote(write_file(File((wrong,))), Options("m.tflite"))


@pytest.mark.parametrize(
    "message",
    [
        struct.pack("<I", 1 << 30),
        b"\x04\x00\x00\x00null",
        b"\x02\x00\x00\x00{]",
        *(
            struct.pack("<I", len(text)) + text
            for text in (
                json.dumps({"arrays": [each]}).encode() for each in (["O", [1]], ["f4", [-1]], ["f4", [2**40]])
            )
        ),
    ],
)
def test_what_no_process_would_say_is_refused(message: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(message)
        with pytest.raises(ValueError):  # noqa: PT011  # of many wordings
            receive(near)


def test_messages_arrive_as_they_were_sent() -> None:
    near, far = socket.socketpair()
    arrays: list[Array] = [
        np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::2],
        np.zeros((0, 2), np.float32),
        np.array(True),
    ]
    with near, far:
        send(near, {"do": "run"}, arrays)
        header, found = receive(far)
        near.close()
        with pytest.raises(EOFError):
            receive(far)
    assert header == {"do": "run"}
    for sent, each in zip(arrays, found, strict=True):
        assert each.dtype == sent.dtype
        np.testing.assert_array_equal(each, sent)


def test_another_size_than_the_file_says_is_refused(tmp_path: Path) -> None:
    program = one_operator("SOFTMAX", [tensor("x", (1, 8, 8, 1))], tensor("y", (1, 10)), beta=1.0)
    program = replace(program, input_names=("x",), output_names=("y",))
    runner = open_model(write(tmp_path / "m.tflite", program))
    with pytest.raises(Exception, match=r"says that `y` is \[1, 10\], and LiteRT makes it \[1, 8, 8, 1\]"):
        runner({"x": np.zeros((1, 8, 8, 1), np.float32)})
