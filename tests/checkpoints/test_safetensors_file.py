"""Our safetensors reader and writer against the library's, and against damaged files."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile, TensorInfo, write_safetensors
from hunyuan_video.checkpoints.sources import read
from hunyuan_video.errors import UserError

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.float8_e4m3fn]


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def random_tensors(shapes, dtypes):
    tensors = {}
    for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        tensors[f"block.{i}.weight"] = (torch.randn(shape) * 50).to(dtype)
    return tensors


def write(path, tensors):
    infos = {name: TensorInfo(tuple(t.shape), t.dtype) for name, t in tensors.items()}
    with path.open("wb") as file:
        write_safetensors(file, infos, tensors.__getitem__, {"note": "x"})


tensor_specs = st.lists(
    st.tuples(st.lists(st.integers(0, 5), max_size=4).map(tuple), st.sampled_from(DTYPES)), min_size=1, max_size=5
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs=tensor_specs)
def test_agrees_with_the_library_both_ways(tmp_path, specs):
    tensors = random_tensors(*zip(*specs, strict=True))
    ours, library = tmp_path / "ours.safetensors", tmp_path / "library.safetensors"
    write(ours, tensors)
    save_file(tensors, library)
    for expected, result in (
        (tensors, load_file(ours)),
        (tensors, {k: read(SafetensorsFile(library), k) for k in tensors}),
    ):
        assert expected.keys() == result.keys()
        for name, tensor in expected.items():
            assert result[name].dtype == tensor.dtype and result[name].shape == tensor.shape
            assert bits(result[name]) == bits(tensor)


def test_metadata_and_alignment(tmp_path):
    tensors = random_tensors([(3,), (5,), (7,)], [torch.uint8, torch.float32, torch.bfloat16])
    write(tmp_path / "a.safetensors", tensors)
    file = SafetensorsFile(tmp_path / "a.safetensors")
    assert file.metadata == {"format": "pt", "note": "x"}
    assert all((file._start + file._offsets[k]) % t.dtype.itemsize == 0 for k, t in tensors.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reads_rows_with_conversion(tmp_path, dtype):
    tensor = torch.randn(9, 4, 2)
    write(tmp_path / "a.safetensors", {"a": tensor})
    out = torch.empty(3, 4, 2, dtype=dtype)
    SafetensorsFile(tmp_path / "a.safetensors").read_into(out, "a", (5, 8))
    assert torch.equal(out, tensor[5:8].to(dtype))


def test_reads_into_a_strided_place(tmp_path):
    tensor = torch.randn(3, 4)
    write(tmp_path / "a.safetensors", {"a": tensor})
    out = torch.zeros(4, 3).T
    SafetensorsFile(tmp_path / "a.safetensors").read_into(out, "a")
    assert torch.equal(out, tensor)


def good_bytes(tmp_path):
    write(tmp_path / "good.safetensors", {"a": torch.arange(6.0), "b": torch.arange(4.0)})
    return (tmp_path / "good.safetensors").read_bytes()


def with_header(content: bytes, change) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


DAMAGE = {
    "empty": (lambda c: b"", "truncated"),
    "header cut": (lambda c: c[:40], "truncated"),
    "data cut": (lambda c: c[:-3], "truncated.*copy or download it again"),
    "trailing bytes": (lambda c: c + b"x", "corrupt"),
    "zip": (lambda c: b"PK\x03\x04" + c, "not a safetensors file"),
    "lfs": (lambda c: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
    "json": (lambda c: c[:8] + b"[" + c[9:], "not JSON"),
    "list": (lambda c: (2).to_bytes(8, "little") + b"[]", "not a table"),
    "overlap": (lambda c: with_header(c, lambda h: h["b"].update(data_offsets=[8, 24])), "corrupt.*'b'"),
    "size": (lambda c: with_header(c, lambda h: h["b"].update(shape=[5])), "corrupt.*'b'"),
    "negative": (lambda c: with_header(c, lambda h: h["b"].update(shape=[-4])), "corrupt.*'b'"),
    "no offsets": (lambda c: with_header(c, lambda h: h["b"].pop("data_offsets")), "corrupt.*'b'"),
    "metadata": (lambda c: with_header(c, lambda h: h.update(__metadata__=[1])), "metadata is not a table"),
    "dtype": (lambda c: with_header(c, lambda h: h["b"].update(dtype="F4")), "'b' has dtype F4"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_are_named_in_one_line(tmp_path, name):
    change, message = DAMAGE[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(change(good_bytes(tmp_path)))
    with pytest.raises(UserError, match=message) as error:
        SafetensorsFile(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_changed_header_byte_never_crashes(tmp_path, position, value):
    content = bytearray(good_bytes(tmp_path))
    content[position % len(content)] = value
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    try:
        file = SafetensorsFile(path)
    except UserError:
        return
    for name, info in file.infos.items():
        assert read(file, name).shape == info.shape


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path, {"a": torch.arange(100.0)})
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="ended inside tensor 'a'"):
        read(file, "a")
