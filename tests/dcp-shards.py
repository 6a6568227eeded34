#!/usr/bin/env python3
"""Looks at shards of PyTorch DCP in safetensors form, with nothing but Python: made from what hf_storage.py of PyTorch does.
dcp-shards.py whole DIR FILE RANKS: put together by their boxes, the shards in DIR are FILE, and they are as torch's reader wants them.
dcp-shards.py like DIR DIR: both have the same boxes with the same bytes in the files of the same names; boxes without elements do not count.
dcp-shards.py make FILE SEED: a safetensors file with tensors of all kinds and sizes.
SPDX-License-Identifier: Apache-2.0"""
import json, math, os, random, re, struct, sys

BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
         "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8}  # fmt: skip


def load(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    at = 8 + length
    return metadata, {k: (t["dtype"], t["shape"], data[at + t["data_offsets"][0] : at + t["data_offsets"][1]]) for k, t in header.items()}


def shards(folder):
    """{file: {name: (dtype, shape, bytes, offsets)}}"""
    files = {}
    for name in sorted(f for f in os.listdir(folder) if f.endswith(".safetensors")):
        metadata, tensors = load(os.path.join(folder, name))
        info = json.loads(metadata["DCP_SHARDING_INFO"])
        assert metadata["format"] == "pt" and metadata["DCP_VERSION"] == "1.0", name
        assert set(info) == set(tensors), name
        files[name] = {k: (*t, info[k]["saved_offsets"]) for k, t in tensors.items()}
    return files


def rows(shape, begin, size):
    """Where in the whole tensor each row of a box begins, in elements."""
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    for row in range(math.prod(size[:-1])):
        at, rest = begin[-1], row
        for k in range(len(size) - 2, -1, -1):
            at += (begin[k] + rest % size[k]) * strides[k]
            rest //= size[k]
        yield at


def whole(folder, file, ranks):
    files, want = shards(folder), load(file)[1]
    for name in files:
        rank = re.fullmatch(r"shard-(\d{5})-model-00001-of-00001\.safetensors", name)
        assert rank and 1 <= int(rank[1]) <= ranks, name
    assert {k for f in files.values() for k in f} == set(want)
    for name, (dtype, shape, data) in want.items():
        boxes = [f[name] for f in files.values() if name in f]
        got, filled = bytearray(len(data)), 0
        for box_dtype, size, bytes_, begin in boxes:
            assert box_dtype == dtype and len(begin) == len(size) == len(shape), name
            if not shape:
                got[:] = bytes_
            length = size[-1] * BYTES[dtype] if shape else 0
            for i, at in enumerate(rows(shape, begin, size) if shape and math.prod(size) else ()):
                got[at * BYTES[dtype] : at * BYTES[dtype] + length] = bytes_[i * length : (i + 1) * length]
            filled += math.prod(size)
        assert [max(b[k] + s[k] for _, s, _, b in boxes) for k in range(len(shape))] == shape, name
        assert filled == math.prod(shape) and bytes(got) == data, name
        assert len(boxes) == 1 or min(b[1][0] for b in boxes) > 0, name
    assert ranks == 1 or not any(s and s[0] > 1 and math.prod(s) for _, s, _ in want.values()) or any(
        sum(k in f for f in files.values()) > 1 for k in want), "nothing is cut"


def like(a, b):
    a, b = ({n: {k: t for k, t in f.items() if t[2]} for n, f in shards(x).items()} for x in (a, b))
    assert {n for n in a if a[n]} == {n for n in b if b[n]}
    for n in a:
        for k in a[n].keys() & b.get(n, {}).keys():
            assert a[n][k] == b[n][k], (n, k)
        assert a[n].keys() == b.get(n, {}).keys(), (n, a[n].keys() ^ b.get(n, {}).keys())


def make(file, seed):
    choose = random.Random(seed)
    header, data = {}, b""
    for i in range(12):
        dtype = choose.choice(list(BYTES))
        shape = [choose.choice([0, 1, 2, 3, 5, 7, 16]) if choose.random() < 0.2 else choose.randrange(1, 9) for _ in range(choose.randrange(4))]
        length = math.prod(shape) * BYTES[dtype]
        values = choose.choices(b"\0\1", k=length) if dtype == "BOOL" else choose.randbytes(length)
        header[f"layers.{i}.\u00e9 w"] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + length]}
        data += bytes(values)
    text = json.dumps(header).encode()
    open(file, "wb").write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    words = [int(w) if w.isdigit() else w for w in sys.argv[2:]]
    {"whole": whole, "like": like, "make": make}[sys.argv[1]](*words)
