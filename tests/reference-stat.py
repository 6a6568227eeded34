# SPDX-License-Identifier: Apache-2.0
"""sd-stat against numpy and ml_dtypes: every dtype, all codes of those of 8 and 16 bits, NaN, Inf, subnormals, -0.

Prints TAP. With --write DIR it writes the small ones instead, and what sd-stat is to print of them: tests/stat's goldens.
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np

TYPES = {
    "U64": np.uint64, "I64": np.int64, "F64": np.float64, "C64": np.complex64, "F32": np.float32, "U32": np.uint32,
    "I32": np.int32, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "U16": np.uint16, "I16": np.int16,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    "I8": np.int8, "U8": np.uint8, "F6_E3M2": ml_dtypes.float6_e3m2fn, "F6_E2M3": ml_dtypes.float6_e2m3fn,
    "F4": ml_dtypes.float4_e2m1fn, "BOOL": np.bool_,
}
BITS = {"F6_E3M2": 6, "F6_E2M3": 6, "F4": 4}


def pack(name, array):
    """The bytes of a tensor in a file; elements of 4 and 6 bits one behind the other, the low bits first."""
    if name not in BITS:
        return array.tobytes()
    bits, number = BITS[name], 0
    for i, code in enumerate(array.view(np.uint8).reshape(-1)):
        number |= (int(code) & ((1 << bits) - 1)) << (i * bits)
    return number.to_bytes(array.size * bits // 8, "little")


def write(path, tensors):
    header, data = {}, b""
    for key, (name, array) in tensors.items():
        raw = pack(name, array)
        header[key] = {"dtype": name, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


def expect(name, array):
    """mean, std, min, max, absmax, rms, zeros, nan, inf, dead."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if name == "C64":
        flat = flat.view(np.float32)
    if name in ("U64", "I64"):
        flat = flat.astype(np.float64)
    wide = flat.astype(np.longdouble) if name not in BITS and not name.startswith(("F8", "BF")) \
        else flat.astype(np.float32).astype(np.longdouble)
    finite = wide[np.isfinite(wide)]
    zeros, nan, inf = int((wide == 0).sum()), int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
    dead = 0
    is_float = name[0] in "FB" and name != "BOOL"
    if is_float and array.ndim >= 2 and array.shape[-1] >= 16:
        dead = int((wide.reshape(-1, array.shape[-1]) == 0).all(axis=1).sum())
    if not finite.size:
        return [None] * 6 + [zeros, nan, inf, dead]
    n = np.longdouble(finite.size)
    mean = finite.sum() / n
    var = ((finite - mean) ** 2).sum() / n
    rms = np.sqrt((finite ** 2).sum() / n)
    low, high = float(finite.min()), float(finite.max())
    return [float(mean), float(np.sqrt(var)), low + 0.0, high + 0.0, max(abs(low), abs(high)), float(rms),
            zeros, nan, inf, dead]


def of_codes(name, count=None):
    kind = np.dtype(TYPES[name])
    if name in BITS:
        return np.arange(1 << BITS[name], dtype=np.uint8).view(kind)
    codes = np.arange(1 << (8 * kind.itemsize), dtype=np.uint8 if kind.itemsize == 1 else np.uint16)
    return codes.view(kind) if name != "BOOL" else (codes % 2).astype(np.uint8).view(np.bool_)


def special(name, array):
    """Puts what is no ordinary number into a copy."""
    array = array.copy().reshape(-1)
    numbers = [np.nan, np.inf, -np.inf, -0.0, 0.0]
    for i, number in enumerate(numbers):
        array[i * 7 + 3] = np.array(number).astype(TYPES[name])
    if name in ("F32", "F64", "F16", "BF16"):
        kind = {2: np.uint16, 4: np.uint32, 8: np.uint64}[array.itemsize]
        array.view(kind)[50] = 1
    return array


def tensors(rng, size):
    out = {}
    for name in TYPES:
        kind = np.dtype(TYPES[name])
        if kind.itemsize == 1:
            codes = of_codes(name)
            out[f"codes.{name}"] = (name, codes.reshape(4, -1))
            if size[1] > 1000:
                few = codes[np.isfinite(codes.astype(np.float32))]
                out[f"many.{name}"] = (name, few[rng.integers(0, few.size, size)])
        elif name in ("F64", "F32", "F16", "BF16"):
            a = rng.normal(0, 0.02, size).astype(kind)
            out[f"plain.{name}"] = (name, a)
            out[f"special.{name}"] = (name, special(name, a).reshape(a.shape))
            far = (rng.normal(0, 0.01, size) + 100).astype(kind)
            out[f"far.{name}"] = (name, far)
            dead = a.copy()
            dead[1] = 0
            dead[-1] = -0.0
            out[f"dead.{name}"] = (name, dead)
        elif name == "C64":
            out["plain.C64"] = (name, (rng.normal(size=size) + 1j * rng.normal(size=size)).astype(kind))
        else:
            info = np.iinfo(kind)
            out[f"plain.{name}"] = (name, rng.integers(info.min, info.max, size, dtype=kind, endpoint=True))
            out[f"ends.{name}"] = (name, np.array([info.min, info.max, 0], dtype=kind))
    out["empty"] = ("BF16", np.zeros((0, 5), TYPES["BF16"]))
    out["scalar"] = ("F32", np.array(2.5, np.float32))
    out["one"] = ("F16", np.array([-0.0], np.float16))
    out["all-nan"] = ("F32", np.full(5, np.nan, np.float32))
    out["max"] = ("F32", np.full(5000, np.finfo(np.float32).max, np.float32))
    return out


E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


def quantised(rng):
    """Weights with their scales, without a config.json: what is in the file, and the numbers that it stands for. With
    scales in BF16 these are BF16, too: so compressed-tensors has it."""
    e4m3, bf16 = TYPES["F8_E4M3"], TYPES["BF16"]
    made, numbers = {}, {}

    def add(key, codes, scale_key, scale, product):
        made[key], made[scale_key] = codes, scale
        numbers[key], numbers[scale_key] = ("F32", product), scale

    codes = rng.normal(0, 100, (130, 140)).astype(e4m3)
    wide = codes.astype(np.float32)
    blocks = rng.uniform(1e-4, 1e-3, (2, 2)).astype(np.float32)
    spread = np.repeat(np.repeat(blocks, 128, 0), 128, 1)[:130, :140]
    # The scales come behind their weight here, and before it there.
    add("block.weight", ("F8_E4M3", codes), "block.weight_scale_inv", ("F32", blocks), wide * spread)
    one = np.array(0.003, np.float32)
    add("tensor.weight", ("F8_E4M3", codes), "tensor.weight_scale", ("F32", one), wide * one)
    row = rng.uniform(1e-4, 1e-3, (130, 1)).astype(bf16)
    made["row.weight_scale"] = ("BF16", row)
    add("row.weight", ("F8_E4M3", codes), "row.weight_scale", ("BF16", row),
        (wide * row.astype(np.float32)).astype(bf16).astype(np.float32))
    packed = rng.integers(0, 256, (4, 3, 16), dtype=np.uint8)
    powers = rng.integers(100, 130, (4, 3), dtype=np.uint8)
    four = np.array(E2M1, np.float32)[np.stack([packed & 15, packed >> 4], -1).reshape(4, 3, 32)]
    product = four * np.exp2(powers.astype(np.float32) - 127)[..., None]
    add("m.gate_up_proj_blocks", ("U8", packed), "m.gate_up_proj_scales", ("U8", powers), product.astype(np.float32))
    return made, numbers


def lines(made, numbers):
    """What sd-stat prints: the dtype is that in the file, the shape that of the numbers."""
    for key, (name, _) in made.items():
        kind, array = numbers[key]
        columns = text(kind, expect(kind, array))
        yield [key, name, json.dumps(list(array.shape), separators=(",", ":")), str(array.size), *columns]


def flags(key, name, shape, zeros, nan, inf, dead):
    """What is wrong with a tensor by itself."""
    count = math.prod(json.loads(shape))
    return ",".join(word for word, yes in [
        ("nan", int(nan)), ("inf", int(inf)), ("zero", int(zeros) == count and name[0] in "FB" and "," in shape and count),
        ("dead", int(dead) and int(zeros) < count)] if yes) or "-"


def faults(rng):
    """A checkpoint in which one thing of each kind is wrong, beside what looks like it and is not."""
    bf16, out = TYPES["BF16"], {}

    def weight(*shape):
        return rng.normal(0, 0.02, shape).astype(bf16)

    out["model.embed_tokens.weight"] = weight(40, 16)
    out["model.embed_tokens.weight"][7] = 0
    for layer in range(4):
        at = f"model.layers.{layer}"
        for expert in range(8):
            for part in ("gate_proj", "down_proj"):
                out[f"{at}.mlp.experts.{expert}.{part}.weight"] = weight(16, 32)
            # Scales may differ as they like.
            out[f"{at}.mlp.experts.{expert}.gate_proj.weight_scale"] = weight(16) * bf16(4 ** expert)
        out[f"{at}.mlp.experts.gate_up_proj"] = weight(8, 16, 32)
        out[f"{at}.self_attn.q_proj.weight"] = weight(32, 32)
        out[f"{at}.self_attn.q_proj.bias"] = weight(32)
        out[f"{at}.self_attn.k_proj.bias"] = np.zeros(32, bf16)
        out[f"{at}.input_layernorm.weight"] = np.ones(32, bf16)
    out["model.layers.0.self_attn.q_proj.weight"][3] = 0
    out["model.layers.1.mlp.experts.5.down_proj.weight"][...] = -0.0
    out["model.layers.1.mlp.experts.6.gate_proj.weight"] *= bf16(16)
    out["model.layers.2.mlp.experts.gate_up_proj"][3] = 0
    out["model.layers.2.mlp.experts.gate_up_proj"][6] *= bf16(0.0625)
    out["model.layers.2.self_attn.q_proj.bias"][...] = 0
    out["model.layers.3.self_attn.q_proj.weight"][12, 9] = np.nan
    out["model.layers.3.mlp.experts.gate_up_proj"][2, 5, 7] = -np.inf
    return {key: ("BF16", array) for key, array in out.items()}


SLICES = [("plain.F32", "[1,0:4]"), ("plain.BF16", "[-1,-3:]"), ("plain.F64", "[:,::75]"), ("special.F16", "[0,:20:8]"),
          ("plain.C64", "[2,5]"), ("scalar", ""), ("ends.I32", ""), ("one", "[0]"), ("plain.U16", "[1:2,3:1]"),
          ("long.BF16", "[2,4990:]"), ("codes.F4", "[3]")]


def wide_of(name, array):
    return array.astype(np.float32).astype(np.float64) if name in BITS or name.startswith("BF") else array


def write_views(folder, made):
    """Histograms and elements as numpy has them."""
    with open(os.path.join(folder, "hist.tsv"), "w", encoding="utf-8") as file:
        for key in ("plain.F64", "special.F32", "plain.BF16", "plain.F16", "scalar"):
            array = np.asarray(wide_of(*made[key]), np.float64).reshape(-1)
            counts, edges = np.histogram(array[np.isfinite(array)], 7)
            for i, count in enumerate(counts):
                print(key, f"{edges[i]:.17g}", f"{edges[i + 1]:.17g}", count, sep="\t", file=file)
    with open(os.path.join(folder, "values.tsv"), "w", encoding="utf-8") as file:
        for key, piece in SLICES:
            name, array = made[key]
            array = wide_of(name, array)
            index = np.arange(array.size).reshape(array.shape)
            chosen = eval("index" + piece, {"index": index}) if piece else index
            digits = {"F64": 17, "I32": 10}.get(name, 9)
            for i in np.asarray(chosen).reshape(-1):
                value = array.reshape(-1)[i]
                shown = f"{value.real:.9g}{value.imag:+.9g}j" if name == "C64" else f"{value:.{digits}g}"
                place = ",".join(str(x) for x in np.unravel_index(i, array.shape)) if array.ndim else ""
                print(key, f"[{place}]", shown, sep="\t", file=file)


def text(name, numbers):
    digits = 17 if name in ("F64", "U64", "I64", "C64", "U32", "I32") else 9
    show = lambda x, d: "-" if x is None else f"{x:.{d}g}"
    mean, std, low, high, most, rms = numbers[:6]
    return [show(mean, 9), show(std, 9), show(low, digits), show(high, digits), show(most, digits), show(rms, 9)] + \
        [str(x) for x in numbers[6:]]


def close(got, want, scale, n):
    if want is None or got == "-":
        return want is None and got == "-"
    return abs(float(got) - want) <= 1e-8 * abs(want) + 4e-16 * n ** 0.5 * scale


def compare(path, made):
    tool = os.path.join(os.environ.get("SD_TOOLS", "build"), "sd-stat")
    lines = subprocess.run([tool, path], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    got = {line.split("\t")[0]: line.split("\t") for line in lines}
    good = []
    for key, (name, array) in made.items():
        want, columns = expect(name, array), got[key][4:14]
        scale = want[4] or 0
        ok = all(close(c, w, scale, max(array.size, 1)) for c, w in zip(columns[:6], want[:6])) and \
            columns[6:] == [str(x) for x in want[6:]]
        good.append((key, ok, columns, want))
    return good


def main():
    rng = np.random.default_rng(18)
    if sys.argv[1:2] == ["--write"]:
        made = tensors(rng, (3, 160))
        made["long.BF16"] = ("BF16", rng.normal(0, 1, (3, 5000)).astype(TYPES["BF16"]))
        write(os.path.join(sys.argv[2], "dtypes.safetensors"), made)
        with open(os.path.join(sys.argv[2], "dtypes.tsv"), "w", encoding="utf-8") as file:
            for line in lines(made, made):
                print(*line, flags(*line[:3], *line[-4:]), 1, sep="\t", file=file)
        write_views(sys.argv[2], made)
        made, numbers = quantised(rng)
        write(os.path.join(sys.argv[2], "quantised.safetensors"), made)
        with open(os.path.join(sys.argv[2], "quantised.tsv"), "w", encoding="utf-8") as file:
            for line in lines(made, numbers):
                print(*line, flags(*line[:3], *line[-4:]), 1, sep="\t", file=file)
        write(os.path.join(sys.argv[2], "faults.safetensors"), faults(rng))
        return
    made = tensors(rng, (7, 30012))
    for name in ("BF16", "F16", "U16", "I16"):
        made[f"codes.{name}"] = (name, of_codes(name))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.safetensors")
        write(path, made)
        results = compare(path, made)
    for i, (key, ok, got, want) in enumerate(results, 1):
        print(f"{'ok' if ok else 'not ok'} {i} - sd-stat of {key} is what numpy has")
        if not ok:
            print(f"#   got  {got}\n#   want {want}")
    print(f"1..{len(results)}")


main()
