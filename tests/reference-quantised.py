#!/usr/bin/env python3
"""What sd-cast --quant makes, in the libraries that read it: compressed-tensors' own decompressor, and a model of
Transformers that loads the folder.

SPDX-License-Identifier: Apache-2.0
Run by tests/reference-quantised. With --write DIR it writes what the decompressor makes instead: tests/quantise-back.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import compressed_tensors.compressors
import torch
import transformers
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file, save_file

FORMS = ("fp8-block", "fp8-channel", "fp8-tensor", "mxfp4", "nvfp4")


def run(command):
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)


def decompressed(folder):
    """What compressed-tensors makes of each module."""
    config = QuantizationConfig.model_validate(json.loads((folder / "config.json").read_text())["quantization_config"])
    (scheme,) = config.config_groups.values()
    reader = compressed_tensors.compressors.BaseCompressor.get_value_from_registry(scheme.format or config.format)
    tensors, plain = load_file(folder / "model.safetensors"), {}
    for module in sorted(k[: -len(".weight_scale")] for k in tensors if k.endswith(".weight_scale")):
        state = {k[len(module) + 1 :]: v for k, v in tensors.items() if k.startswith(module + ".")}
        plain[module + ".weight"] = reader.decompress(state, scheme)["weight"].to(torch.bfloat16)
    return plain


def blocks(folder):
    """What FP8 in blocks of 128 x 128 is."""
    tensors, plain = load_file(folder / "model.safetensors"), {}
    for name in sorted(k for k in tensors if k + "_scale_inv" in tensors):
        w, s = tensors[name].float(), tensors[name + "_scale_inv"].float()
        s = s.repeat_interleave(128, 0)[: w.shape[0]].repeat_interleave(128, 1)[:, : w.shape[1]]
        plain[name] = (w * s).to(torch.bfloat16)
    return plain


def quantise(source, form, target, choice):
    run(f"sd-cat {source} | sd-cast --quant {form} {choice} | sd-pack -o {target}/ 2>{target}.err")


def same(got, want):
    assert got.keys() >= want.keys() and want, f"{sorted(want.keys() - got.keys())} missing"
    for name, tensor in want.items():
        assert torch.equal(got[name], tensor), f"{name}: {(got[name] != tensor).sum().item()} differ"


def kept(folder):
    """A matrix whose edges cut blocks, of numbers of many sizes, zeros and a row of nothing else."""
    torch.manual_seed(1)
    w = torch.randn(20, 160) * 2.0 ** torch.randint(-9, 9, (20, 160))
    w[torch.rand(20, 160) < 0.1] = 0
    w[7] = 0
    (folder / "in").mkdir()
    save_file({"m.a_proj.weight": w.to(torch.bfloat16)}, folder / "in" / "model.safetensors")
    (folder / "in" / "config.json").write_text("{}")


def llama(folder):
    torch.manual_seed(2)
    config = transformers.LlamaConfig(hidden_size=256, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
                                      num_key_value_heads=2, vocab_size=64, head_dim=64)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def by_decompressor(work, form):
    quantise(work / "in", form, work / form, "-n '*_proj.weight'")
    run(f"sd-cat {work / form} | sd-cast --dequant bf16 | sd-pack -o {work / form}.plain/ 2>/dev/null")
    want = blocks(work / form) if form == "fp8-block" else decompressed(work / form)
    same(load_file(f"{work / form}.plain/model.safetensors"), want)
    return want


def by_transformers(work, form):
    """A model that was loaded has the numbers that --dequant makes."""
    folder = work / f"llama-{form}"
    quantise(work / "llama", form, folder, "-n '*_proj.weight'")
    run(f"sd-cat {folder} | sd-cast --dequant bf16 | sd-pack -o {folder}.plain/ 2>/dev/null")
    if form == "fp8-block":
        how = transformers.FineGrainedFP8Config(dequantize=True)
    else:
        how = transformers.CompressedTensorsConfig(run_compressed=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, quantization_config=how, dtype=torch.bfloat16)
    want = {k: v for k, v in load_file(f"{folder}.plain/model.safetensors").items() if k.endswith("_proj.weight")}
    same({k: v.to(torch.bfloat16) for k, v in model.state_dict().items()}, want)


def main():
    failed = done = 0
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        kept(work)
        llama(work / "llama")
        for way in (by_decompressor, by_transformers):
            for form in FORMS:
                done += 1
                try:
                    made = way(work, form)
                    print(f"ok {done} - {form}, {way.__name__}", flush=True)
                    if made and sys.argv[1:2] == ["--write"]:
                        save_file(made, pathlib.Path(sys.argv[2]) / f"{form}.safetensors")
                except Exception as e:
                    failed += 1
                    print(f"not ok {done} - {form}, {way.__name__}\n#   {type(e).__name__}: " + str(e).replace("\n", "\n#   "), flush=True)
        if sys.argv[1:2] == ["--write"]:
            (pathlib.Path(sys.argv[2]) / "in.safetensors").write_bytes((work / "in" / "model.safetensors").read_bytes())
    print(f"1..{done}\n# {done - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
