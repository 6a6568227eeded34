#!/usr/bin/env python3
"""What maps make of packed and scaled weights, element by element: the value of each from the words of sd-map(5), exactly.

SPDX-License-Identifier: Apache-2.0
Run by tests/reference-codes. Families without golden cases; their shapes and names are those of the released checkpoints.
"""
import json
import os
import pathlib
import random
import struct
import subprocess
import tempfile
from fractions import Fraction

TOOLS = pathlib.Path(os.environ.get("SD_TOOLS") or pathlib.Path(__file__).resolve().parent.parent / "build")
os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
SIZES = {"F32": 4, "BF16": 2, "F8_E4M3": 1, "F8_E8M0": 1, "U8": 1, "I8": 1, "I32": 4, "I64": 8}
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
rng = random.Random(11)
done = failed = 0


def count(shape):
    n = 1
    for size in shape:
        n *= size
    return n


def write(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, value) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(value)]}
        data += value
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read(data):
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    body = data[8 + length:]
    return {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items() if k != "__metadata__"}


def nearest(value, mantissa, least):
    """A fraction to the nearest number of so many bits, ties to even; none of these is too large."""
    if value == 0:
        return value
    exponent = max(abs(value).numerator.bit_length() - value.denominator.bit_length() - 1, least)
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    step = Fraction(2) ** (exponent - mantissa)
    return round(value / step) * step


def bf16(value, negative_zero=False):
    """The bytes of a product: rounded to F32, then to BF16."""
    rounded = nearest(nearest(value, 23, -126), 7, -126)
    bits = struct.unpack("<I", struct.pack("<f", -0.0 if rounded == 0 and negative_zero else float(rounded)))[0]
    return struct.pack("<H", bits >> 16)


def e4m3(code):
    """Value and sign; 0x7f is not made here."""
    exponent, mantissa = code >> 3 & 15, code & 7
    magnitude = Fraction(mantissa, 512) if exponent == 0 else Fraction(8 + mantissa, 8) * Fraction(2) ** (exponent - 7)
    return (-magnitude if code & 128 else magnitude), code >> 7


class Weight:
    """A matrix as a file has it, and the value and sign of each element."""

    def __init__(self, kind, rows, columns, block, scale):
        per = {"fp8": 1, "fp4": 2, "int4": 8}[kind]
        self.rows, self.columns, self.kind, self.block = rows, columns, kind, block
        codes = [rng.randrange(256 if kind == "fp8" else 16) for _ in range(rows * columns)]
        self.codes = [0x38 if kind == "fp8" and c & 127 == 127 else c for c in codes]
        shape = [-(-rows // block[0]), -(-columns // block[1])]
        self.scale_shape = shape
        if scale in ("U8", "F8_E8M0"):
            exponents = [rng.randrange(100, 150) for _ in range(count(shape))]
            self.scales, data = [Fraction(2) ** (e - 127) for e in exponents], bytes(exponents)
        elif scale == "BF16":
            halves = [0x3000 + rng.randrange(0x1800) for _ in range(count(shape))]
            data = b"".join(struct.pack("<H", h) for h in halves)
            self.scales = [Fraction(struct.unpack("<f", struct.pack("<I", h << 16))[0]) for h in halves]
        else:
            data = b"".join(struct.pack("<f", rng.uniform(-2, 2)) for _ in range(count(shape)))
            self.scales = [Fraction(x[0]) for x in struct.iter_unpack("<f", data)]
        self.scale = (scale, shape, data)
        if kind == "fp8":
            packed = bytes(self.codes)
        else:
            packed = bytes(self.codes[i] | self.codes[i + 1] << 4 for i in range(0, len(self.codes), 2))
        self.weight = ({"fp8": "F8_E4M3", "fp4": "I8", "int4": "I32"}[kind], [rows, columns // per], packed)

    def at(self, row, column, plus_zero=False):
        code = self.codes[row * self.columns + column]
        by = self.scales[row // self.block[0] * self.scale_shape[1] + column // self.block[1]]
        if self.kind == "fp8":
            value, sign = e4m3(code)
        elif self.kind == "int4":
            value, sign = Fraction(code - 8), 0
        else:
            value, sign = Fraction(E2M1[code % 8]) * (-1 if code > 8 else 1), code > 7 and not (plus_zero and code == 8)
        return bf16(value * by, sign != (by < 0))

    def turned(self, **how):
        return [[self.at(r, c, **how) for r in range(self.rows)] for c in range(self.columns)]

    def plain(self, **how):
        return b"".join(self.at(r, c, **how) for r in range(self.rows) for c in range(self.columns))


def grouped(experts, prefix, **how):
    """Gate, up and down of some experts, as nemo has them."""
    hidden, inter = experts[0][0].columns, experts[0][0].rows
    both = b"".join(b"".join(g + u) for gate, up, _ in experts for g, u in zip(gate.turned(**how), up.turned(**how)))
    down = b"".join(b"".join(row) for _, _, d in experts for row in d.turned(**how))
    return {f"{prefix}.gate_and_up_projs": ("BF16", [len(experts), hidden, 2 * inter], both),
            f"{prefix}.down_projs": ("BF16", [len(experts), experts[0][2].columns, hidden], down)}


def check(name, family, tensors, want, *options):
    global done, failed
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "in.safetensors")
        write(path, tensors)
        for way in ("", "--memory 32KiB --threads 1"):
            rename = " ".join(["sd-rename --map", family, "--to nemo", *options])
            run = subprocess.run(["bash", "-o", "pipefail", "-c",
                                  f"sd-cat {path} | {rename} | sd-transpose {way} | sd-pack"], capture_output=True)
            got = read(run.stdout) if run.returncode == 0 else {}
            wrong = [k for k in sorted(set(got) | set(want)) if got.get(k) != want.get(k)]
            done += 1
            failed += bool(wrong)
            print(f"{'not ok' if wrong else 'ok'} {done} - {name}{' ' if way else ''}{way}")
            if wrong:
                print(f"# other: {', '.join(wrong)}\n# {run.stderr.decode()}")


for groups, group, scale in ((2, 32, "BF16"), (3, 8, "F32"), (1, 40, "F32")):
    experts = [[Weight("int4", *shape, (1, shape[1] // groups), scale) for shape in
                ((5, groups * group), (5, groups * group), (groups * group, 8 * groups))] for _ in range(3)]
    tensors = {}
    for e, expert in enumerate(experts):
        for name, weight in zip(("gate_proj", "up_proj", "down_proj"), expert):
            key = f"language_model.model.layers.1.mlp.experts.{e}.{name}.weight"
            tensors[f"{key}_packed"], tensors[f"{key}_scale"] = weight.weight, weight.scale
            tensors[f"{key}_shape"] = ("I64", [2], struct.pack("<qq", weight.rows, weight.columns))
    check(f"INT4, {groups} groups of {group}, scales of {scale}", "kimi_k25_vl", tensors,
          grouped(experts, "model.language_model.model.layers.1.mlp.experts"))

experts = [[Weight("fp8", *shape, (1, 32), scale) for *shape, scale in
            ((5, 70, "U8"), (5, 70, "U8"), (70, 5, "F8_E8M0"))] for _ in range(2)]
plain = Weight("fp8", 3, 65, (1, 32), "U8")
tensors = {"language_model.model.layers.0.self_attn.q_proj.weight": plain.weight,
           "language_model.model.layers.0.self_attn.q_proj.weight_scale_inv": plain.scale}
for e, expert in enumerate(experts):
    for name, weight in zip(("w1", "w3", "w2"), expert):
        key = f"language_model.model.layers.0.block_sparse_moe.experts.{e}.{name}.weight"
        tensors[key], tensors[f"{key}_scale_inv"] = weight.weight, weight.scale
check("MXFP8 with rows of 32", "minimax_m3_vl", tensors,
      {"model.layers.0.self_attn.q_proj.weight": ("BF16", [3, 65], plain.plain()),
       **grouped(experts, "model.layers.0.mlp.experts")})

experts = [[Weight("fp4", *shape, (1, 32), "F8_E8M0") for shape in ((6, 96), (6, 96), (96, 6))] for _ in range(2)]
table, square = Weight("fp8", 7, 64, (1, 32), "F8_E8M0"), Weight("fp8", 50, 70, (32, 32), "F8_E8M0")
tensors = {"layers.0.engram.embed.weight": table.weight, "layers.0.engram.embed.scale": table.scale,
           "layers.0.attn.wkv.weight": square.weight, "layers.0.attn.wkv.scale": square.scale}
for e, expert in enumerate(experts):
    for name, weight in zip(("w1", "w3", "w2"), expert):
        key = f"layers.0.ffn.experts.{e}.{name}"
        tensors[f"{key}.weight"], tensors[f"{key}.scale"] = weight.weight, weight.scale
check("E2M1 with rows of 32, E4M3 with squares of 32", "deepseek_v41", tensors,
      {"model.layers.0.engram.embed.weight": ("BF16", [7, 64], table.plain()),
       "model.layers.0.attn.wkv.weight": ("BF16", [50, 70], square.plain()),
       **grouped(experts, "model.layers.0.ffn.experts", plus_zero=True)}, "-D layers=1")

n, rows, columns = 3, 10, 7
for shape in ([], [n], [n, 1, 1]):
    parts = [Weight("fp8", rows, columns, (rows, columns), "F32") for _ in range(n)]
    if not shape:
        for part in parts[1:]:
            part.scales = parts[0].scales
    data = b"".join(struct.pack("<f", float(p.scales[0])) for p in parts[:count(shape)])
    router = bytes(rng.randrange(256) for _ in range(n * columns * 2))
    prefix = "language_model.model.layers.0.mlp."
    tensors = {f"{prefix}experts.gate_up_proj": ("F8_E4M3", [n, rows, columns], b"".join(p.weight[2] for p in parts)),
               f"{prefix}experts.gate_up_proj_scale_inv": ("F32", shape, data),
               f"{prefix}gate.weight": ("BF16", [n, columns], router)}
    want = b"".join(b"".join(row) for p in parts for row in p.turned())
    check(f"E4M3 with scales of shape {shape}, and zeros", "mistral4", tensors,
          {"model.layers.0.mlp.experts.gate_and_up_projs": ("BF16", [n, columns, rows], want),
           "model.layers.0.mlp.gate.weight": ("BF16", [n, columns], router),
           "model.layers.0.mlp.gate.e_score_correction_bias": ("F32", [n], bytes(4 * n))})

print(f"1..{done}")
raise SystemExit(failed > 0)
