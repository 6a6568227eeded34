#!/usr/bin/env python3
"""sd-cast --quant against the formulas of sd-cast(1), in exact fractions: scales, the nearest of all codes, and the way back.

SPDX-License-Identifier: Apache-2.0
Run by tests/quantise. Python's standard library alone.
"""
import json
import pathlib
import random
import struct
import subprocess
import sys
from fractions import Fraction

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
E4M3 = [(m / 8 * 2.0**-6) if e == 0 else (1 + m / 8) * 2.0 ** (e - 7) for e in range(16) for m in range(8)][:127]


def f32(x):
    """The float32 nearest to a fraction or float."""
    return struct.unpack("<f", struct.pack("<f", float(x)))[0]


def bf16(x):
    (b,) = struct.unpack("<I", struct.pack("<f", x))
    return struct.unpack("<f", struct.pack("<I", (b + 0x7FFF + (b >> 16 & 1)) >> 16 << 16))[0]


def nearest(x, table):
    """The code of the nearest number, ties to the even one; a sign on top."""
    code = min(range(len(table)), key=lambda c: (abs(Fraction(table[c]) - abs(Fraction(x))), c & 1))
    return code, str(x)[0] == "-"


def write(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(t[2] for t in tensors.values()))


def read(data):
    (n,) = struct.unpack("<Q", data[:8])
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]])
            for k, v in json.loads(data[8 : 8 + n]).items() if k != "__metadata__"}


def run(command):
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=True).stdout


def floats(t):
    return list(struct.unpack(f"<{len(t[2]) // 4}f", t[2]))


def expected(form, w, o, i):
    """Codes, scales as stored, global scale, and what comes back, in F32 and then BF16."""
    codes, scales, back, g = [], [], [], 1.0
    most = max(abs(x) for row in w for x in row)
    if form == "nvfp4":
        g = f32(Fraction(448 * 6) / Fraction(most)) if most else 1.0
    group = {"mxfp4": 32, "nvfp4": 16}.get(form, i)
    for row in w:
        for b in range(0, i, group):
            own = max(abs(x) for x in row[b : b + group])
            if form == "mxfp4":
                byte = 127 if own == 0 else max((struct.unpack("<I", struct.pack("<f", own))[0] >> 23) - 2, 0)
                scales.append(byte)
                s = 2.0 ** (byte - 127)
            elif form == "nvfp4":
                # Divided first, then multiplied, each rounded to float32.
                byte = max(nearest(f32(Fraction(f32(Fraction(own) / 6)) * Fraction(g)), E4M3)[0], 1)
                scales.append(byte)
                s = f32(Fraction(E4M3[byte]) / Fraction(g))
            else:
                own = most if form == "fp8-tensor" else own
                s = f32(Fraction(own) / 448) if own else 1.0
                scales.append(s)
            for x in row[b : b + group]:
                q = f32(Fraction(x) / Fraction(s)) if x else x
                code, minus = nearest(q, E2M1 if group < i else E4M3)
                value = (E2M1 if group < i else E4M3)[code]
                codes.append(code | (minus << (3 if group < i else 7)))
                back.append(bf16(f32(Fraction(value) * Fraction(s))) * (-1 if minus else 1))
    return codes, scales[:1] if form == "fp8-tensor" else scales, g, back


def try_form(form, o, i, rng, kind):
    w = [[f32(rng.gauss(0, 1) * {"plain": 1, "wide": 2.0 ** rng.randrange(-12, 12), "zeros": rng.random() < 0.3}[kind])
          for _ in range(i)] for _ in range(o)]
    if kind == "zeros":
        w[o // 2] = [0.0] * i
    write(pathlib.Path("in.safetensors"), {"m.weight": ("F32", [o, i], b"".join(struct.pack("<f", x) for row in w for x in row))})
    pathlib.Path("config.json").write_text("{}")
    got = read(run(f"sd-cat in.safetensors | sd-cast --quant {form} -n m.weight | sd-pack"))
    codes, scales, g, back = expected(form, w, o, i)
    small = "fp" not in form[:2]
    data = got["m.weight_packed" if small else "m.weight"][2]
    own = [n for b in data for n in (b & 15, b >> 4)] if small else list(data)
    stored = list(got["m.weight_scale"][2]) if small else floats(got["m.weight_scale"])
    assert stored == scales, f"scales {stored[:4]}, expected {scales[:4]}"
    assert own == codes, next(f"code {k}: {a}, expected {b}" for k, (a, b) in enumerate(zip(own, codes)) if a != b)
    if form == "nvfp4":
        assert floats(got["m.weight_global_scale"]) == [g]
    plain = read(run(f"sd-cat in.safetensors | sd-cast --quant {form} -n m.weight | sd-cast --dequant bf16 | sd-pack"))
    dtype, shape, data = plain["m.weight"]
    assert (dtype, shape) == ("BF16", [o, i]) and list(plain) == ["m.weight"]
    values = [struct.unpack("<f", b"\0\0" + data[k : k + 2])[0] for k in range(0, len(data), 2)]
    assert values == back, next(f"number {k}: {a}, expected {b}" for k, (a, b) in enumerate(zip(values, back)) if a != b)


done = 0
failed = 0
for form in ("fp8-channel", "fp8-tensor", "mxfp4", "nvfp4"):
    for kind in ("plain", "wide", "zeros"):
        done += 1
        try:
            try_form(form, 40, 96, random.Random(form + kind), kind)
            print(f"ok {done} - {form}, {kind}")
        except Exception as e:
            failed += 1
            print(f"not ok {done} - {form}, {kind}\n#   {e}")
print(f"1..{done}\n# {done - failed} passed, {failed} failed")
sys.exit(failed > 0)
