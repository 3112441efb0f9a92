"""The canonical layout: idempotent, comments kept, meaning kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc import load_text, specs
from cnnc.diagnostics import CnnError, Source
from cnnc.language import lexemes
from cnnc.language.formatter import format_spec
from tests.support.calling import call
from tests.support.paths import ROOT

SHIPPED = sorted([*ROOT.glob("specs/*.cnn"), ROOT / "grammar" / "prelude.cnn"])


def laid_out(text: str) -> str:
    return format_spec(Source("test.cnn", text))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_ships_is_in_canonical_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert laid_out(text) == text


def test_labels_keys_and_factors_stand_in_columns() -> None:
    text = """model m{
input 8x8x3
a:conv(3,8)|bn
longer :  relu# why


head: globalpool

}
train{
data cifar10
batch    32
}
scale phi{
width=1.1^phi
resolution = 1.15^phi
}"""
    assert (
        laid_out(text)
        == """model m {
  input 8x8x3
  a:      conv(3, 8) | bn
  longer: relu  # why

  head: globalpool
}
train {
  data  cifar10
  batch 32
}
scale phi {
  width      = 1.1 ^ phi
  resolution = 1.15 ^ phi
}
"""
    )


def test_arguments_with_a_line_each_make_a_table() -> None:
    text = """input 8x8x3
blocks: [1,2] x mbconv(
kernel=[3x3,5x5],  # a comment
filters=[16,240],
stride=[1,2])
| relu
"""
    assert (
        laid_out(text)
        == """input 8x8x3
blocks: [1, 2] x mbconv(
          kernel  = [3x3, 5x5],  # a comment
          filters = [ 16, 240],
          stride  = [  1,   2])
        | relu
"""
    )


def test_a_variant_goes_on_behind_its_name() -> None:
    text = """variants {
small: depth=1
wide: depth=2, act=relu,
repeats=[1,2,12],
width=[16,240,3]
}
"""
    assert (
        laid_out(text)
        == """variants {
  small: depth=1
  wide:  depth=2, act=relu,
         repeats = [ 1,   2, 12],
         width   = [16, 240,  3]
}
"""
    )


def test_signs_operators_and_one_line_bodies_are_spaced() -> None:
    text = "input 4x1\nn=-1+2*- 3\nif n<-4{ relu|tanh }else{identity}\nadd{\nidentity\n( relu if n>0 )\n}\n"
    assert laid_out(text) == (
        "input 4x1\nn = -1 + 2 * -3\nif n < -4 { relu | tanh } else { identity }\nadd {\n  identity\n"
        "  (relu if n > 0)\n}\n"
    )


@pytest.mark.parametrize("name", specs.names())
@settings(max_examples=2)
@given(data=st.data())
def test_any_spacing_of_a_spec_comes_out_the_same(name: str, data: st.DataObject) -> None:
    text = specs.read(name)
    pieces, end = [], 0
    for lexeme in lexemes(Source(name, text)):
        gap = text[end : lexeme.start]
        if "\n" not in gap and "#" not in gap:
            gap = data.draw(st.sampled_from([" ", "  ", "\t", "   "])) if gap else ""
        pieces.append(gap + lexeme.text)
        end = lexeme.end
    assert laid_out("".join([*pieces, text[end:]])) == text


def test_the_layout_keeps_the_network() -> None:
    text = specs.read("efficientnet")
    assert load_text(laid_out(text.replace("  ", " "))).graph == load_text(text).graph


def test_an_empty_file_stays_empty() -> None:
    assert laid_out("") == ""
    assert laid_out("\n\n# only this\n\n") == "# only this\n"


def test_a_spec_that_does_not_parse_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "broken.cnn"
    path.write_text("input 8x8x3\nconv(3\n")
    result = call("fmt", str(path))
    assert result.exit_code == 1
    assert "never closed" in result.stderr
    assert path.read_text() == "input 8x8x3\nconv(3\n"


def test_check_reports_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "wide.cnn"
    path.write_text("input   8x8x3\nrelu\n")
    result = call("fmt", "--check", str(path))
    assert (result.exit_code, path.read_text()) == (1, "input   8x8x3\nrelu\n")
    assert call("fmt", str(path)).exit_code == 0
    assert path.read_text() == "input 8x8x3\nrelu\n"
    assert call("fmt", "--check", str(path)).exit_code == 0


def test_a_bundled_spec_is_not_rewritten() -> None:
    result = call("fmt", "resnet")
    assert result.exit_code == 1
    assert "bundled" in result.stderr


def test_broken_text_raises_what_the_parser_raises() -> None:
    with pytest.raises(CnnError, match="never closed"):
        laid_out("add {")
