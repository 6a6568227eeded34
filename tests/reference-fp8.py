#!/usr/bin/env python3
"""Block FP8 of sd-cast against numpy and ml_dtypes: scale = max|block| / 448, code = nearest(weight / scale), and back.

SPDX-License-Identifier: Apache-2.0
Run by tests/reference-fp8.
"""
import os
import pathlib
import subprocess
import tempfile

import ml_dtypes
import numpy
from safetensors import TensorSpec, deserialize, serialize

TOOLS = pathlib.Path(os.environ.get("SD_TOOLS") or pathlib.Path(__file__).resolve().parent.parent / "build")
os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
E4M3 = ml_dtypes.float8_e4m3fn
TYPES = {"F32": numpy.float32, "BF16": ml_dtypes.bfloat16, "F16": numpy.float16, "F8_E4M3": E4M3}
SPELLED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
done = failed = 0


def pipe(data, command):
    return subprocess.run(["bash", "-o", "pipefail", "-c", f"{command} | sd-pack"], input=data, capture_output=True,
                          check=True).stdout


def tensors(data):
    return {name: numpy.frombuffer(t["data"], TYPES[t["dtype"]]).reshape(t["shape"]) for name, t in deserialize(data)}


def expanded(scales, shape):
    """One scale for each element."""
    return scales.astype(numpy.float32).repeat(128, -2).repeat(128, -1)[..., :shape[-2], :shape[-1]]


def reference(weight, scale_type):
    o, i = weight.shape[-2:]
    pad = [(0, 0)] * (weight.ndim - 2) + [(0, -o % 128), (0, -i % 128)]
    blocks = numpy.pad(numpy.abs(weight.astype(numpy.float32)), pad)
    blocks = blocks.reshape(*weight.shape[:-2], (o + 127) // 128, 128, (i + 127) // 128, 128)
    most = blocks.max(axis=(-3, -1))
    scales = numpy.where(most == 0, numpy.float32(1), most / numpy.float32(448)).astype(TYPES[scale_type])
    codes = numpy.clip(weight.astype(numpy.float32) / expanded(scales, weight.shape), -448, 448).astype(E4M3)
    return codes, scales


def check(name, good):
    global done, failed
    done += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {done} - {name}")


random = numpy.random.default_rng(7)
for shape in [(1, 1), (128, 128), (200, 136), (3, 130, 257), (2, 2, 5, 300), (129, 1000)]:
    for dtype in ["BF16", "F32", "F16"]:
        for scale in ["F32", "BF16"]:
            weight = (random.standard_normal(shape) * 0.05).astype(TYPES[dtype])
            weight.reshape(-1)[:: 7] = 0
            file = serialize({"w": TensorSpec(dtype=SPELLED[dtype], shape=list(shape), data_ptr=weight.ctypes.data,
                                              data_len=weight.nbytes)})
            made = pipe(file, f"sd-cast --quant fp8-block --scale {scale} --include w")
            got = tensors(made)
            codes, scales = reference(weight, scale)
            case = f"{dtype} {list(shape)} with scales of {scale}"
            check(f"{case}: scales", got["w_scale_inv"].tobytes() == scales.tobytes())
            check(f"{case}: codes", got["w"].tobytes() == codes.tobytes())
            for to in ["BF16", "F32"]:
                back = tensors(pipe(made, f"sd-cast --dequant {to}"))
                product = (codes.astype(numpy.float32) * expanded(scales, shape)).astype(TYPES[to])
                check(f"{case}: back to {to}", list(back) == ["w"] and back["w"].tobytes() == product.tobytes())
print(f"1..{done}")
raise SystemExit(failed > 0)
