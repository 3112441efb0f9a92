"""Picture files of every mode become the uint8 arrays that a viewer shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc.data.pictures.decode import centred, decode, to_channels
from cnnc.data.pictures.jpeg import decode_jpeg, size_of
from cnnc.diagnostics import CnnError
from tests.support.pictures import noise, truncate


def test_a_picture_of_the_size_wanted_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = noise(5, 7, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png", (5, 7), 3), pixels)


def test_grey_becomes_rgb_and_rgb_becomes_luma(tmp_path: Path) -> None:
    grey, colour = noise(4, 4, 1), noise(4, 4, 3)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(colour).save(tmp_path / "colour.bmp")
    assert np.array_equal(decode(tmp_path / "grey.png", (4, 4), 3), np.stack([grey] * 3, axis=-1))
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(decode(tmp_path / "colour.bmp", (4, 4), 1)[..., 0] - luma).max() <= 1


def test_arrays_change_channels_as_pillow_does() -> None:
    colour = noise(16, 16, 3)
    assert np.array_equal(to_channels(colour, 1)[..., 0], np.asarray(Image.fromarray(colour).convert("L")))


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 256, 32768, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert decode(tmp_path / "deep.png", (1, 4), 1)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert decode(tmp_path / "deep.png", (1, 4), 3)[0, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[-5, 0, 255]], np.int32), [0, 0, 255]),  # 8 bits, kept in 32
        (np.array([[-5, 255, 256, 65535, 65536, 2**31 - 1]], np.int32), [0, 0, 1, 255, 255, 255]),
        (np.array([[0, 256]], np.int32), [0, 1]),
        (np.array([[-0.5, 254.9, 255]], np.float32), [0, 254, 255]),
        (np.array([[255, 256, 65536]], np.float32), [0, 1, 255]),
    ],
)
def test_numbers_of_32_bits_never_wrap_round(tmp_path: Path, values: np.ndarray, wanted: list[int]) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert decode(tmp_path / "a.tiff", values.shape, 1)[0, :, 0].tolist() == wanted


def test_a_dark_sixteen_bit_picture_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 200, np.uint16)).save(tmp_path / "dark.png")
    assert decode(tmp_path / "dark.png", (2, 2), 1).max() == 0


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = [255, 0, 128]
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    opaque, clear, half = decode(tmp_path / "a.png", (1, 3), 3)[0].tolist()
    assert opaque == [200, 0, 0]
    assert clear == [255, 255, 255]
    assert half == pytest.approx([227, 127, 127], abs=1)
    assert np.array_equal(decode(tmp_path / "a.png", (1, 3), 4), pixels)


def test_a_palette_and_its_transparent_entry_are_resolved(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=1)
    assert decode(tmp_path / "a.png", (1, 2), 3)[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    red, green, blue = decode(tmp_path / "red.jpg", (8, 8), 3)[4, 4].tolist()
    assert red > 230
    assert green < 30
    assert blue < 30


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(tmp_path: Path, orientation: int) -> None:
    # How each value of EXIF's tag 0x0112 stores an upright picture (JEITA CP-3451).
    upright = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((32, 16), np.uint8))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = decode(tmp_path / "a.jpg", (64, 32), 1)[..., 0].astype(int)
    assert np.abs(found - upright).mean() < 4
    # Small enough for the JPEG to be decoded at a fraction of its size.
    small = decode(tmp_path / "a.jpg", (8, 4), 1)[..., 0].astype(int)
    assert small[1::4, 1::2].tolist() == [[pytest.approx(v, abs=12) for v in row] for row in [[0, 80], [160, 240]]]


def test_a_wide_picture_is_cut_at_the_centre_by_its_shorter_side(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", (10, 10), 3).min() == 255
    assert centred((10, 10))(30, 10) == (10, 0, 20, 10)
    assert centred((5, 10))(30, 10) == (5, 0, 25, 10)


def test_resizing_agrees_with_pillow_on_the_whole_cut(tmp_path: Path) -> None:
    pixels = noise(40, 60, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    other = Image.fromarray(pixels[:, 10:50]).resize((16, 16), Image.Resampling.BILINEAR)
    differences = np.abs(decode(tmp_path / "a.png", (16, 16), 3).astype(int) - np.asarray(other))
    # At the cut's sides the antialiasing sees what lies beyond them.
    assert differences[:, 1:-1].max() == 0


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.bmp"):
        Image.fromarray(noise(64, 64, 3)).save(tmp_path / name)
        truncate(tmp_path / name)
        with pytest.raises(CnnError, match=rf"error\[picture\]: cannot decode `.*{name}`") as caught:
            decode(tmp_path / name, (64, 64), 3)
        assert "--skip-corrupt" in (caught.value.diagnostics[0].help or "")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(60)])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(CnnError, match=r"error\[picture\]: cannot decode `.*a.jpg`"):
        decode(tmp_path / "a.jpg", (8, 8), 3)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(CnnError, match=r"there is no picture `.*gone.png`"):
        decode(tmp_path / "gone.png", (8, 8), 3)


# JPEG files by simplejpeg


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_simplejpeg_gives_pillows_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subsampling: int, mode: str
) -> None:
    pytest.importorskip("simplejpeg", reason="needs the package simplejpeg")
    for i, (height, width) in enumerate([(8, 8), (33, 47), (120, 91)]):
        image = Image.fromarray(noise(height, width, 3, seed=i)).convert(mode)
        image.save(tmp_path / f"{i}.jpg", quality=60 + 15 * i, subsampling=subsampling, progressive=bool(i % 2))
    wishes = [((8, 8), 3), ((40, 30), 3), ((64, 64), 1)]
    boxes = (None, lambda width, height: (0.3, 1.2, width * 0.7, height * 0.9))
    fast = [decode(tmp_path / f"{i}.jpg", *wish, box) for i in range(3) for wish in wishes for box in boxes]
    monkeypatch.setattr("cnnc.data.pictures.decode.size_of", lambda raw, channels: None)
    slow = [decode(tmp_path / f"{i}.jpg", *wish, box) for i in range(3) for wish in wishes for box in boxes]
    for one, other in zip(fast, slow, strict=True):
        assert np.array_equal(one, other)


def test_what_is_more_than_decoding_is_left_to_pillow(tmp_path: Path) -> None:
    module = pytest.importorskip("simplejpeg", reason="needs the package simplejpeg")
    assert module
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "plain.jpg")
    plain = (tmp_path / "plain.jpg").read_bytes()
    assert size_of(plain, 3) == (30, 20)
    assert size_of(plain, 1) is None  # the luma of a colour picture is rounded as Pillow does it
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("CMYK", (8, 8)).save(tmp_path / "cmyk.jpg")
    for raw in ((tmp_path / "turned.jpg").read_bytes(), (tmp_path / "cmyk.jpg").read_bytes(), b"\xff\xd8\xff", b""):
        assert size_of(raw, 3) is None
    assert decode_jpeg(plain[: len(plain) // 2], 3) is None
