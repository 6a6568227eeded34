#!/usr/bin/env python3
"""Our files against those of the safetensors library (0.8 or later), for random checkpoints of all dtypes.

SPDX-License-Identifier: Apache-2.0
Run by tests/reference.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from safetensors import TensorSpec, deserialize, serialize

TOOLS = pathlib.Path(os.environ.get("SD_TOOLS") or pathlib.Path(__file__).resolve().parent.parent / "build")
os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
SIZES = {"uint64": 8, "int64": 8, "float64": 8, "complex64": 8, "float32": 4, "uint32": 4, "int32": 4, "bfloat16": 2,
         "float16": 2, "uint16": 2, "int16": 2, "float8_e5m2fnuz": 1, "float8_e4m3fnuz": 1, "float8_e8m0fnu": 1,
         "float8_e4m3fn": 1, "float8_e5m2": 1, "int8": 1, "uint8": 1, "bool": 1}
results = []


@contextlib.contextmanager
def case(name):
    """One TAP result; any exception is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield pathlib.Path(folder)
        except Exception as why:
            print(f"not ok {len(results) + 1} - {name}")
            print("\n".join(f"#   {line}" for line in f"{type(why).__name__}: {why}".splitlines()))
            results.append(False)
        else:
            print(f"ok {len(results) + 1} - {name}")
            results.append(True)


def shell(command, folder):
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, capture_output=True)
    if done.returncode or done.stderr:
        raise RuntimeError(f"exit status {done.returncode}: {command}\n{done.stderr.decode()}")


def random_tensors(source, count):
    """Name: (dtype, shape, bytes). Names whose natural and bytewise order differ, shapes of 0 to 4 dimensions, empty ones too."""
    tensors = {}
    for i in range(count):
        name = f"layers.{source.randrange(200)}.{source.choice(['w', 'b', 'weight', 'Ünï', 'A_log'])}.{i}"
        dtype = source.choice(list(SIZES))
        shape = [source.choice([0, 1, 2, 3, 7, 16]) for _ in range(source.randrange(5))]
        size = SIZES[dtype]
        for n in shape:
            size *= n
        tensors[name] = (dtype, shape, source.randbytes(size))
    return tensors


def saved(tensors, metadata):
    """The bytes that the library writes."""
    buffers = {name: ctypes.create_string_buffer(data, len(data) or 1) for name, (_, _, data) in tensors.items()}
    return serialize({name: TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(buffers[name]), data_len=len(data))
                      for name, (dtype, shape, data) in tensors.items()}, metadata)


def loaded(file):
    return {name: (entry["dtype"], entry["shape"], bytes(entry["data"])) for name, entry in deserialize(file.read_bytes())}


def expect_bytes(file, expected):
    got = file.read_bytes()
    if got != expected:
        at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        raise AssertionError(f"{len(got)} bytes, not {len(expected)}; they differ from byte {at} on:\n"
                             f"{got[at:at + 80]!r}\n{expected[at:at + 80]!r}")


def expect(condition, why):
    if not condition:
        raise AssertionError(why)


for seed in range(8):
    source = random.Random(seed)
    tensors = random_tensors(source, 60)
    whole = saved(tensors, {"format": "pt"})

    with case(f"seed {seed}: a file comes out as the library wrote it") as folder:
        (folder / "in.safetensors").write_bytes(whole)
        shell("sd-cat in.safetensors | sd-pack -o out", folder)
        expect_bytes(folder / "out", whole)

    with case(f"seed {seed}: a shuffled directory becomes the file that the library writes") as folder:
        (folder / "in").mkdir()
        names = list(tensors)
        source.shuffle(names)
        for i in range(3):
            part = {name: tensors[name] for name in names[i::3]}
            (folder / f"in/{i}.safetensors").write_bytes(saved(part, {"format": "pt"}))
        shell("sd-cat in | sd-pack -o out", folder)
        expect_bytes(folder / "out", whole)

    with case(f"seed {seed}: shards and index are as the library and transformers write them") as folder:
        (folder / "in.safetensors").write_bytes(whole)
        limit = sum(len(data) for _, _, data in tensors.values()) // 3
        shell(f"sd-cat in.safetensors | sd-pack -o out/ --shard-size {limit}", folder)
        shards = sorted((folder / "out").glob("*.safetensors"))
        expect(len(shards) > 2, f"{len(shards)} shards")
        weight_map, total = {}, 0
        for shard in shards:
            part = loaded(shard)
            expect_bytes(shard, saved({name: tensors[name] for name in part}, {"format": "pt"}))
            expect(len(part) == 1 or sum(len(data) for _, _, data in part.values()) <= limit, f"{shard.name} is too large")
            weight_map.update({name: shard.name for name in part})
            total += sum(len(data) for _, _, data in part.values())
        expect(weight_map.keys() == tensors.keys(), "tensors are missing")
        text = (folder / "out/model.safetensors.index.json").read_text()
        index = json.loads(text)
        expect(index["weight_map"] == weight_map, "weight_map")
        expect(index["metadata"]["total_size"] == total, "total_size")
        expect(text == json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
               or text == json.dumps(index, indent=2, sort_keys=True) + "\n", "the form of the index")

    with case(f"seed {seed}: transposed by hand") as folder:
        rows, columns, matrices = source.randrange(1, 90), source.randrange(1, 90), source.randrange(1, 4)
        before, after = {}, {}
        for dtype, size in SIZES.items():
            data = source.randbytes(matrices * rows * columns * size)
            turned = bytearray()
            for m in range(matrices):
                for c in range(columns):
                    for r in range(rows):
                        at = ((m * rows + r) * columns + c) * size
                        turned += data[at:at + size]
            before[f"turn.{dtype}"] = (dtype, [matrices, rows, columns], data)
            after[f"turn.{dtype}"] = (dtype, [matrices, columns, rows], bytes(turned))
            before[f"keep.{dtype}"] = after[f"keep.{dtype}"] = (dtype, [matrices, rows, columns], data)
        (folder / "in.safetensors").write_bytes(saved(before, {"format": "pt"}))
        shell("sd-cat in.safetensors | sd-transpose --dims 1,2 --include '^turn' | sd-pack -o out", folder)
        expect_bytes(folder / "out", saved(after, {"format": "pt"}))

with case("metadata: what all sources agree on stays, and keys are sorted") as folder:
    for name, metadata in ("a", {"format": "pt", "k": "v", "only": "1"}), ("b", {"k": "v", "format": "pt", "only": "2"}):
        (folder / f"{name}.safetensors").write_bytes(saved({name: ("uint8", [1], b"x")}, metadata))
    shell("sd-cat a.safetensors b.safetensors | sd-pack -o out", folder)
    data = (folder / "out").read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    expect(list(header["__metadata__"].items()) == [("format", "pt"), ("k", "v")], header["__metadata__"])

print(f"1..{len(results)}")
print(f"# {sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(not all(results))
