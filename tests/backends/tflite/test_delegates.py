"""What TFLite files are run by: LiteRT, Google's library for the Edge TPU or PyCoral, and what is said without."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cnnc.backends.tflite.litert import interpreter
from cnnc.backends.tflite.litert.runner import COMPILED, open_model
from cnnc.diagnostics import CnnError
from cnnc.evaluation.tflite import open_tflite
from cnnc.tflite_file.program import File, Program
from cnnc.tflite_file.write import write_file
from tests.support.tflite_pictures import brightness, described, write
from tests.support.tflite_programs import one_operator, tensor


def test_no_litert_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_file(File((brightness(),)))
    monkeypatch.setattr(interpreter, "_INTERPRETERS", ("no_such_package.interpreter", "ai_edge_litert.interpreter"))
    open_model(data)
    monkeypatch.setattr(interpreter, "_INTERPRETERS", ("no_such_package.interpreter",))
    with pytest.raises(CnnError, match="needs the package `ai-edge-litert`") as caught:
        open_model(data)
    assert caught.value.diagnostics[0].code == "install"
    assert caught.value.diagnostics[0].help == 'pip install "cnnc[tflite]"'


def compiled() -> Program:
    program = one_operator("CUSTOM", [tensor("x", (1, 4))], tensor("y", (1, 4)))
    return replace(program, operators=(replace(program.operators[0], custom=COMPILED),))


def code_of(caught: pytest.ExceptionInfo[CnnError]) -> str:
    return caught.value.diagnostics[0].code


def test_a_compiled_file_wants_its_device() -> None:
    with pytest.raises(CnnError, match="is compiled for the Edge TPU, and the CPU cannot run it") as caught:
        open_model(write_file(File((compiled(),))))
    assert code_of(caught) == "device"


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "LIBRARIES", dict.fromkeys(interpreter.LIBRARIES, "libnosuchedgetpu.so.1"))
    with pytest.raises(CnnError, match=r"`libnosuchedgetpu\.so\.1` cannot be loaded") as caught:
        open_model(write_file(File((brightness(),))), delegate="edgetpu")
    assert code_of(caught) == "device"
    monkeypatch.setattr(interpreter, "LIBRARIES", {})
    with pytest.raises(CnnError, match="Google has no Edge TPU library for"):
        open_model(write_file(File((brightness(),))), delegate="edgetpu")


DELEGATE = """
#include <stddef.h>
void* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  report("No device of any kind");
  return NULL;
}
void tflite_plugin_destroy_delegate(void* delegate) {}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_library_without_a_device_is_told_from_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake.c").write_text(DELEGATE)
    library = tmp_path / "libfakeedgetpu.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "fake.c"], check=True)
    monkeypatch.setattr(interpreter, "LIBRARIES", dict.fromkeys(interpreter.LIBRARIES, str(library)))
    with pytest.raises(CnnError, match="no Edge TPU is found") as caught:
        open_model(write_file(File((brightness(),))), delegate="edgetpu")
    assert code_of(caught) == "device"
    assert caught.value.diagnostics[0].notes[0].endswith("No device of any kind")


PYCORAL = """
from ai_edge_litert.interpreter import Interpreter

def list_edge_tpus():
    return {devices}

def make_interpreter(content):
    return Interpreter(model_content=content)
"""


def forget_pycoral(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycoral", "pycoral.utils", "pycoral.utils.edgetpu"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that it is put back as it is, which is absent
        del sys.modules[name]


@pytest.mark.parametrize("devices", ["[]", "[{'type': 'usb', 'path': '/sys/x'}]"])
def test_google_s_pycoral_is_used_where_it_is(devices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pycoral" / "utils").mkdir(parents=True)
    for name in ("", "utils"):
        (tmp_path / "pycoral" / name / "__init__.py").touch()
    (tmp_path / "pycoral" / "utils" / "edgetpu.py").write_text(PYCORAL.format(devices=devices))
    monkeypatch.syspath_prepend(tmp_path)
    forget_pycoral(monkeypatch)
    data = write_file(File((brightness(),)))
    if devices == "[]":
        with pytest.raises(CnnError, match="no Edge TPU is found"):
            open_model(data, delegate="edgetpu")
    else:
        found = open_model(data, delegate="edgetpu")({"picture": np.zeros((1, 8, 8, 3), np.float32)})
        assert found["class"].argmax() == 0
        model = open_tflite(write(tmp_path / "m.tflite", brightness(), described()), delegate="edgetpu")
        assert any("no part of" in note for note in model.notes)


def test_another_project_of_that_name_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pycoral").mkdir()
    (tmp_path / "pycoral" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    forget_pycoral(monkeypatch)
    assert interpreter._google_pycoral() is None
