# What a cut leaves, by Python alone: each tensor with its dtype, shape and a checksum of its bytes, sorted.
# Layers and experts are lists such as 0-3,7; both are counted from 0 anew.
# SPDX-License-Identifier: Apache-2.0
import hashlib, json, os, re, struct, sys

def numbers(text):
    chosen = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        chosen.update(range(int(first), int(last or first) + 1))
    return sorted(chosen)

def files(path):
    if os.path.isdir(path):
        return [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(".safetensors")]
    return [path] if path.endswith(".safetensors") else []

def tensors(path):
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield name, entry["dtype"], entry["shape"], data[begin:end]

# Rows of the first dimension, or, where that is 1, of the last.
def rows(shape, data, chosen, count):
    if shape[0] != count:
        assert shape[0] == 1 and shape[-1] == count, shape
    size = len(data) // count
    return ([len(chosen)] + shape[1:] if shape[0] == count else shape[:-1] + [len(chosen)],
            b"".join(data[k * size:(k + 1) * size] for k in chosen))

OTHER = re.compile(r"visual|vision|audio|encoder|talker|code_predictor")
ROUTER = re.compile(r"\.(gate|router|moe_statics)\.|(correction_bias|expert_bias|router_bias)$")
layers, experts = numbers(sys.argv[1]), numbers(sys.argv[2])
whole = [tensor for source in sys.argv[3:] for path in files(source) for tensor in tensors(path)]
counts = [int(n) + 1 for name, *_ in whole if not OTHER.search(name) for n in re.findall(r"\bexperts\.(\d+)", name)]
counts += [shape[0] for name, _, shape, _ in whole
           if re.search(r"\bexperts\.\D", name) and len(shape) > 1 and not OTHER.search(name)]
count = max(counts, default=0)
experts = [k for k in experts if k < count]
for name, dtype, shape, data in sorted(whole):
    if not OTHER.search(name):
        found = re.search(r"\b(?<!mtp\.)layers\.(\d+)", name)
        if layers and found:
            if int(found[1]) not in layers:
                continue
            name = name[:found.start(1)] + str(layers.index(int(found[1]))) + name[found.end(1):]
        found = re.search(r"\bexperts\.(\d+)", name)
        if experts and found:
            if int(found[1]) not in experts:
                continue
            name = name[:found.start(1)] + str(experts.index(int(found[1]))) + name[found.end(1):]
        elif experts and (re.search(r"\bexperts\.\D", name) or ROUTER.search(name)):
            if count in (shape[:1] + shape[-1:]) and "shared" not in name and "self_attn" not in name:
                shape, data = rows(shape, data, experts, count)
    print(name, dtype, shape, hashlib.sha256(data).hexdigest()[:16])
