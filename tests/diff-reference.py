#!/usr/bin/env python3
"""What sd-diff says of random edits and of all codes of small dtypes, against numpy and ml_dtypes.

SPDX-License-Identifier: Apache-2.0
Run by tests/diff-reference.
"""
import json
import os
import pathlib
import re
import struct
import subprocess
import tempfile

import ml_dtypes
import numpy as np

TOOLS = pathlib.Path(os.environ.get("SD_TOOLS") or pathlib.Path(__file__).resolve().parent.parent / "build")
os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
np.seterr(all="ignore")
rng = np.random.default_rng(7)
done = failed = 0

# name: bits, and the numbers of codes
DTYPES = {
    "F64": (64, np.float64), "F32": (32, np.float32), "F16": (16, np.float16), "BF16": (16, ml_dtypes.bfloat16),
    "F8_E4M3": (8, ml_dtypes.float8_e4m3fn), "F8_E5M2": (8, ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": (8, ml_dtypes.float8_e4m3fnuz), "F8_E5M2FNUZ": (8, ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": (8, ml_dtypes.float8_e8m0fnu), "F6_E3M2": (6, ml_dtypes.float6_e3m2fn),
    "F6_E2M3": (6, ml_dtypes.float6_e2m3fn), "F4": (4, ml_dtypes.float4_e2m1fn),
    "U64": (64, np.uint64), "I64": (64, np.int64), "U32": (32, np.uint32), "I32": (32, np.int32),
    "U16": (16, np.uint16), "I16": (16, np.int16), "U8": (8, np.uint8), "I8": (8, np.int8), "BOOL": (8, np.uint8),
}
SMALL = [name for name, (bits, _) in DTYPES.items() if bits <= 16]


def check(name, problem):
    global done, failed
    done += 1
    failed += bool(problem)
    print(f"{'not ' if problem else ''}ok {done} - {name}")
    if problem:
        print("#   " + str(problem)[:2000].replace("\n", "\n#   "))


def pack(dtype, codes):
    """Codes as they lie in a file."""
    bits = DTYPES[dtype][0]
    codes = np.asarray(codes).reshape(-1)
    if bits >= 8:
        return codes.astype(f"<u{bits // 8}").tobytes()
    shifts = np.arange(bits, dtype=np.uint8)
    return np.packbits((codes.astype(np.uint8)[:, None] >> shifts & 1).reshape(-1), bitorder="little").tobytes()


def numbers(dtype, codes):
    bits, kind = DTYPES[dtype]
    codes = np.asarray(codes).astype(f"<u{max(bits, 8) // 8}")
    return codes.view(kind).astype(np.float64)


def write(path, tensors):
    """tensors: name: (dtype, shape, bytes)"""
    header, at, data = {}, 0, b""
    for name, (dtype, shape, value) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(value)]}
        at += len(value)
        data += value
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def diff(*args, stdin=None):
    run = subprocess.run(["sd-diff", *map(str, args)], capture_output=True, stdin=stdin)
    assert run.returncode in (0, 1), run.stderr.decode()
    lines = [json.loads(line) for line in run.stdout.splitlines()] if "--json" in args else run.stdout.decode()
    return run.returncode, lines


def number(value):
    return float(value) if value is not None else None


def near(a, b):
    return a == b or (np.isnan(a) and np.isnan(b)) or abs(a - b) <= 1e-8 * abs(b)


def expected(dtype, a, b):
    """What is to be said of two arrays of codes of one dtype."""
    x, y = numbers(dtype, a), numbers(dtype, b)
    apart = a != b
    if dtype in ("U64", "I64"):
        whole = a.view(DTYPES[dtype][1]), b.view(DTYPES[dtype][1])
        d = np.array([float(abs(int(p) - int(q))) for p, q in zip(*whole)])
    else:
        d = np.where(x == y, 0, np.abs(y - x))
    known = apart & ~np.isnan(d)
    finite = np.isfinite(x) & np.isfinite(y)
    dd, aa, bb = (np.sum(np.where(finite, v, 0) ** 2) for v in (d, x, y))
    ab = np.sum(np.where(finite, x * y, 0))
    return {
        "differ": int(apart.sum()),
        "max_abs": float(np.max(d[known])) if known.any() else 0.0,
        "rel": np.sqrt(dd) / np.sqrt(aa) if dd else 0.0,
        "cos": ab / (np.sqrt(aa) * np.sqrt(bb)),
        "nan": [int(np.isnan(x).sum()), int(np.isnan(y).sum())],
    }, d


def edited(dtype, n, kind):
    bits = DTYPES[dtype][0]
    codes = np.frombuffer(rng.bytes(n * 8), np.uint64) >> np.uint64(64 - bits)
    codes = codes.astype(f"<u{max(bits, 8) // 8}")
    if kind == "finite":
        # Most blocks without a NaN: codes of numbers that lie near each other.
        bad = ~np.isfinite(numbers(dtype, codes)) | (np.abs(numbers(dtype, codes)) > 1e30)
        codes[bad] = 1
    other = codes.copy()
    for place in rng.choice(n, size=max(1, n // 50), replace=False):
        other[place] ^= type(other[place])(1 << rng.integers(bits))
    return codes, other


def values_case(folder, dtype, n, kind):
    a, b = edited(dtype, n, kind)
    write(folder / "a.safetensors", {"w": (dtype, [n // 8, 8], pack(dtype, a))})
    write(folder / "b.safetensors", {"w": (dtype, [n // 8, 8], pack(dtype, b))})
    want, d = expected(dtype, a, b)
    status, lines = diff("--json", folder / "a.safetensors", folder / "b.safetensors")
    if not want["differ"]:
        return None if status == 0 else "status"
    got = lines[0]
    for key in ("max_abs", "rel", "cos"):
        if not near(number(got[key]), want[key]):
            return f"{key}: {got[key]}, not {want[key]}"
    if got["differ"] != want["differ"] or got["nan"] != want["nan"] or status != 1:
        return f"{got}, not {want}"
    at = got["at"][0] * 8 + got["at"][1]
    if a[at] == b[at] or (want["max_abs"] and d[at] != want["max_abs"]):
        return f"at {at}: {d[at]}"
    # Threads, and a stream in place of a file, change nothing.
    plain = diff(folder / "a.safetensors", folder / "b.safetensors")
    for threads in (1, 3):
        if diff(f"--threads={threads}", folder / "a.safetensors", folder / "b.safetensors") != plain:
            return f"threads {threads}"
    with subprocess.Popen(["sd-cat", folder / "b.safetensors"], stdout=subprocess.PIPE) as cat:
        flow = diff("--json", folder / "a.safetensors", "-", stdin=cat.stdout)[1][0]
    if any(flow[key] != got[key] for key in ("differ", "max_abs", "at", "nan")) or not near(number(flow["rel"]), want["rel"]):
        return f"out of a pipe: {flow}, not {got}"
    return None


def steps(dtype, codes_a, codes_b):
    """The distance by places in the sorted list of all numbers of the dtype."""
    bits = DTYPES[dtype][0]
    every = numbers(dtype, np.arange(1 << bits))
    order = {value: place for place, value in enumerate(sorted({v + 0.0 for v in every if not np.isnan(v)}))}
    place = np.array([-1 if np.isnan(v) else order[v + 0.0] for v in every])
    a, b = place[codes_a], place[codes_b]
    far = np.abs(a - b)
    far[(a < 0) | (b < 0)] = 1 << 62
    far[codes_a == codes_b] = 0
    return far


def steps_case(folder, dtype):
    bits = DTYPES[dtype][0]
    if bits <= 8:
        a, b = (m.reshape(-1) for m in np.meshgrid(np.arange(1 << bits), np.arange(1 << bits)))
    else:
        a = np.tile(np.arange(1 << bits), 4)
        b = np.concatenate([np.roll(a[:1 << bits], 1), np.roll(a[:1 << bits], -3), a[:1 << bits] ^ (1 << 15),
                            rng.permutation(1 << bits)])
    write(folder / "a.safetensors", {"w": (dtype, [len(a)], pack(dtype, a))})
    write(folder / "b.safetensors", {"w": (dtype, [len(a)], pack(dtype, b))})
    far = steps(dtype, a, b)
    for most in (0, 1, 3, 17, 1000):
        lines = diff("--json", f"--ulp={most}", folder / "a.safetensors", folder / "b.safetensors")[1]
        got, want = lines[0]["differ"] if lines else 0, int((far > most).sum())
        if got != want:
            return f"--ulp={most}: {got} differ, not {want}"
    return None


def bounds_case(folder, dtype):
    a, b = edited(dtype, 4096, "finite")
    write(folder / "a.safetensors", {"w": (dtype, [4096], pack(dtype, a))})
    write(folder / "b.safetensors", {"w": (dtype, [4096], pack(dtype, b))})
    x, y = numbers(dtype, a), numbers(dtype, b)
    d = expected(dtype, a, b)[1]
    for option, bound in (("abs", 0.0), ("abs", 0.25), ("rel", 0.1)):
        same = d <= (bound if option == "abs" else bound * np.maximum(np.abs(x), np.abs(y)))
        want = int(((a != b) & ~same).sum())
        lines = diff("--json", f"--{option}={bound}", folder / "a.safetensors", folder / "b.safetensors")[1]
        got = lines[0]["differ"] if lines else 0
        if got != want:
            return f"--{option}={bound}: {got} differ, not {want}"
    return None


def cast_case(folder, wide, narrow):
    """A narrow tensor and what it was made of are the same with --cast; one that was rounded otherwise is not."""
    bits, kind = DTYPES[wide]
    x = rng.standard_normal(5000).astype(kind)
    y = x.astype(np.float32).astype(DTYPES[narrow][1])
    write(folder / "a.safetensors", {"w": (wide, [5000], x.tobytes())})
    write(folder / "b.safetensors", {"w": (narrow, [5000], y.tobytes())})
    z = y.copy()
    z.view(np.uint16)[77] += 1
    write(folder / "c.safetensors", {"w": (narrow, [5000], z.tobytes())})
    if diff("--cast", folder / "a.safetensors", folder / "b.safetensors")[0] != 0:
        return "not the same"
    lines = diff("--json", "--cast", folder / "a.safetensors", folder / "c.safetensors")[1]
    if lines[0]["differ"] != 1 or lines[0]["at"] != [77]:
        return lines
    lines = diff("--json", folder / "a.safetensors", folder / "b.safetensors")[1]
    want = int((x.astype(np.float64) != y.astype(np.float64)).sum())
    return None if lines[0]["differ"] == want and lines[0]["status"] == "dtype" else f"{lines}, not {want}"


def random_checkpoint():
    shapes = [(16, 24), (24, 24), (4, 8, 12), (40,), (24, 16), (3, 5, 7, 2)]
    return {f"model.layers.{i // 6}.part{i % 6}.weight": rng.standard_normal(shapes[i % 6]).astype(np.float32) for i in range(36)}


def edit(tensors):
    """Renames, turns and cuts some of it. What is to be said of each, by the name in A."""
    out, want = {}, {}
    for name, x in tensors.items():
        what = rng.integers(8)
        axis = int(rng.integers(x.ndim))
        size = int(rng.integers(1, x.shape[axis])) if x.shape[axis] > 1 else 1
        begin = int(rng.integers(0, x.shape[axis] - size + 1))
        if what == 0:
            out[name.replace("part", "piece")] = x
            want[name] = "renamed"
        elif what == 1 and x.ndim >= 2:
            out[name] = np.ascontiguousarray(np.swapaxes(x, -1, -2))
            want[name] = "transpose"
        elif what == 2 and size < x.shape[axis]:
            out[name] = np.ascontiguousarray(np.take(x, np.arange(begin, begin + size), axis))
            want[name] = "slice"
        elif what == 3 and x.ndim >= 2:
            out[name.replace("part", "turned")] = np.ascontiguousarray(np.swapaxes(x, -1, -2))
            want[name] = "renamed"
        elif what == 4 and x.ndim == 3:
            out[name] = np.ascontiguousarray(x.transpose(2, 0, 1))
            want[name] = "order"
        elif what == 6 and x.ndim == 3:
            for i in range(len(x)):
                out[f"{name}.{i}"] = x[i].copy()
            want[name] = "parts"
        elif what == 7 and x.ndim == 2 and x.shape[0] > 4:
            out[name.replace("part", "fused")] = np.concatenate([rng.standard_normal((3, x.shape[1])).astype(np.float32), x])
            want[name] = "part "
        elif what == 5:
            out[name] = x.reshape(-1, 2)
            want[name] = "the same bytes"
        else:
            out[name] = x
            want[name] = "same"
    return out, want


def claim(a, b, line):
    """Whether what a line says is true of the data."""
    note = line["note"] or ""
    x, y = a.get(line["a"]), b.get(line["b"])
    if x is None or y is None:
        return line["status"] in ("removed", "added")
    if line["status"] == "same":
        return x.tobytes() == y.tobytes() and x.shape == y.shape
    if "transpose" in note:
        return np.array_equal(np.swapaxes(x, -1, -2), y)
    if "in the order" in note:
        return np.array_equal(x.transpose(json.loads(re.search(r"\[.*\]", note)[0])), y)
    part = re.match(r"([AB]) is [AB](\[.*\])$", note)
    if part:
        whole, cut = (y, x) if part[1] == "A" else (x, y)
        return np.array_equal(eval("whole" + part[2]).reshape(-1), cut.reshape(-1))
    if line["status"] == "renamed" or "same bytes" in note:
        return x.tobytes() == y.tobytes()
    return line["status"] in ("removed", "added", "shape", "values")


def claims_case(folder):
    a = random_checkpoint()
    b, want = edit(a)
    for name, tensors in (("a", a), ("b", b)):
        write(folder / f"{name}.safetensors", {k: ("F32", v.shape, v.tobytes()) for k, v in tensors.items()})
    status, lines = diff("--json", "--all", folder / "a.safetensors", folder / "b.safetensors")
    parts = {}
    for line in lines:
        if not claim(a, b, line):
            return f"not true: {line}"
        if want.get(line["a"]) == "parts":
            if line["status"] != "part":
                return line
            parts.setdefault(line["a"], []).append(line["b"])
            continue
        if line["a"] is None and line["note"] and "elements are in A" in line["note"]:
            continue # what is around the part
        what, said = want.get(line["a"]), f"{line['status']} {line['note']}"
        if what == "slice":
            found = re.search(r" is [AB]\[", said)
        else:
            found = what and what in said
        if not found:
            return f"{line['a']}: {said}, not {what}"
    for name, w in want.items():
        if w == "parts" and sorted(parts.get(name, [])) != sorted(f"{name}.{i}" for i in range(len(a[name]))):
            return f"{name}: {parts.get(name)}"
    missing = {n for n in a if not any(line["a"] == n for line in lines)}
    return f"nothing said of {missing}" if missing or status != any(w != "same" for w in want.values()) else None


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for dtype in DTYPES:
            for n, kind in ((4096, "any"), (200_000, "finite"), (520, "finite"), (8, "any")):
                check(f"{dtype}, {n}, {kind}", values_case(folder, dtype, n, kind))
        for dtype in SMALL:
            check(f"steps of {dtype}", steps_case(folder, dtype))
        for dtype in DTYPES:
            check(f"bounds, {dtype}", bounds_case(folder, dtype))
        for pair in (("F32", "BF16"), ("F32", "F16"), ("F64", "BF16")):
            check(f"--cast, {pair}", cast_case(folder, *pair))
        for i in range(12):
            check(f"claims {i}", claims_case(folder))
    print(f"1..{done}")


main()
