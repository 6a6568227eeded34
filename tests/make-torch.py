#!/usr/bin/env python3
# Makes files of PyTorch without PyTorch: distributed checkpoints as DIR/hf (safetensors form) and DIR/distcp (its own form), files of
# torch.save as DIR/zip.pt and DIR/legacy.pt, and what is in them as DIR/whole.safetensors.
# SPDX-License-Identifier: Apache-2.0
# Usage: make-torch.py DIR random SEED             tensors of many shapes, cut into boxes at random
#        make-torch.py DIR views SEED              views of storages with any strides
#        make-torch.py DIR rows|columns MIB RANKS  tensors of 16 MiB, cut evenly (without whole.safetensors)
import json, os, pickle, random, struct, sys, types, zlib

ITEM = {"BF16": 2, "F32": 4, "U8": 1}
STORAGE = {"BF16": "BFloat16Storage", "F32": "FloatStorage", "U8": "ByteStorage"}
TORCH = {"BF16": "bfloat16", "F32": "float32", "U8": "uint8"}


def volume(shape):
    n = 1
    for x in shape:
        n *= x
    return n


def box_of(data, item, shape, begin, size):
    """The bytes of a box."""
    if not shape:
        return data
    inner = volume(shape[1:]) * item
    if size[1:] == shape[1:]:
        return data[begin[0] * inner : (begin[0] + size[0]) * inner]
    return b"".join(box_of(data[i * inner : (i + 1) * inner], item, shape[1:], begin[1:], size[1:]) for i in range(begin[0], begin[0] + size[0]))


def boxes(rng, begin, size, depth):
    dims = [d for d, s in enumerate(size) if s > 1]
    if not depth or not dims:
        return [(begin, size)]
    d = rng.choice(dims)
    at = rng.randrange(1, size[d])
    first, second = list(size), list(size)
    first[d], second[d] = at, size[d] - at
    behind = list(begin)
    behind[d] += at
    return boxes(rng, begin, first, depth - 1) + boxes(rng, behind, second, depth - 1)


def safetensors(path, tensors, metadata):
    head, at = {"__metadata__": metadata}, 0
    for name, dtype, shape, data in tensors:
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors:
            f.write(t[3])


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def number(n):
    return b"\x8a\x08" + struct.pack("<q", n)


def tensor_pickle(dtype, shape, stride, count):
    sizes = lambda a: b"(" + b"".join(map(number, a)) + b"t"
    storage = b"(" + text("storage") + f"ctorch\n{STORAGE[dtype]}\n".encode() + text("0") + text("cpu") + number(count) + b"tQ"
    return (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + sizes(shape) + sizes(stride) + b"\x89ccollections\nOrderedDict\n)RtR.")


def archive(members):
    """A zip as torch.save writes it, data at multiples of 64."""
    out, central = bytearray(), bytearray()
    for name, data in members:
        name = b"archive/" + name
        pad = -(len(out) + 30 + len(name) + 4) % 64
        extra = struct.pack("<HH", 0x4246, pad) + b"Z" * pad
        at = len(out)
        out += struct.pack("<4s5H3I2H", b"PK\3\4", 0, 0x808, 0, 0, 0, 0, 0, 0, len(name), len(extra)) + name + extra + data
        crc = zlib.crc32(data)
        out += struct.pack("<4s3I", b"PK\7\x08", crc, len(data), len(data))
        central += struct.pack("<4s6H3I5H2I", b"PK\1\2", 0, 0, 0x808, 0, 0, 0, crc, len(data), len(data), len(name), 0, 0, 0, 0, 0, at) + name
    return bytes(out) + bytes(central) + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(members), len(members), len(central), len(out), 0)


class Make:
    """Classes with the names that PyTorch's have, for pickle."""

    def __init__(self):
        for module, names in {
            "torch.distributed.checkpoint.metadata": ["Metadata", "TensorStorageMetadata", "ChunkStorageMetadata", "TensorProperties", "MetadataIndex"],
            "torch.distributed.checkpoint.filesystem": ["_StorageInfo"],
            "torch": ["Size"] + list(TORCH.values()),
        }.items():
            m = sys.modules[module] = types.ModuleType(module)
            for name in names:
                base = tuple if name == "Size" else object
                c = type(name, (base,), {"__module__": module, "__qualname__": name})
                if name == "Size":
                    c.__reduce__ = lambda self: (type(self), (tuple(self),))
                if name == "TensorProperties":
                    c.__getstate__ = lambda self: (self.dtype, None, False, None, False)
                setattr(m, name, c)
                setattr(self, name, c)

    def object(self, name, **state):
        o = object.__new__(getattr(self, name))
        o.__dict__.update(state)
        return o


def checkpoint(place, tensors, rank_of, strided):
    """tensors: (name, dtype, shape, boxes and their data)."""
    os.makedirs(place + "/hf"), os.makedirs(place + "/distcp")
    make, shards, files, entries, storage = Make(), {}, {}, {}, {}
    for name, dtype, shape, parts in tensors:
        chunks = []
        for i, (begin, size, data) in enumerate(parts):
            rank = rank_of(i)
            # The safetensors form has a tensor once in a file.
            n = 0
            while name in [t[0] for t in shards.get((rank, n), [])]:
                n += 1
            shards.setdefault((rank, n), []).append((name, dtype, size, data, begin))
            stride, stored = [volume(size[k + 1 :]) for k in range(len(size))], data
            if strided and len(size) == 2 and i % 2:
                item = ITEM[dtype]
                stride = [1, size[0]]
                stored = b"".join(data[(r * size[1] + c) * item : (r * size[1] + c + 1) * item] for c in range(size[1]) for r in range(size[0]))
            whole = archive([(b"data.pkl", tensor_pickle(dtype, size, stride, volume(size))), (b"byteorder", b"little"), (b"data/0", stored), (b"version", b"3\n")])
            f = files.setdefault(rank, open(f"{place}/distcp/__{rank}_0.distcp", "wb") if rank not in files else None)
            index = make.object("MetadataIndex", fqn=name, index=i, offset=make.Size(begin))
            storage[index] = make.object("_StorageInfo", relative_path=f"__{rank}_0.distcp", offset=f.tell(), length=len(whole))
            f.write(whole)
            chunks.append(make.object("ChunkStorageMetadata", offsets=make.Size(begin), sizes=make.Size(size)))
        properties = make.object("TensorProperties", dtype=getattr(make, TORCH[dtype]))
        entries[name] = make.object("TensorStorageMetadata", properties=properties, size=make.Size(shape), chunks=chunks)
    for f in files.values():
        f.close()
    with open(place + "/distcp/.metadata", "wb") as f:
        pickle.dump(make.object("Metadata", state_dict_metadata=entries, planner_data=None, storage_data=storage), f, protocol=4)
    for (rank, n), items in shards.items():
        info = {name: {"saved_offsets": begin} for name, _, _, _, begin in items}
        safetensors(f"{place}/hf/shard-{rank + 1:05d}-model-{n + 1:05d}-of-00099.safetensors", [t[:4] for t in items],
                    {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)})


def at_random(place, seed):
    rng = random.Random(seed)
    shapes = [[], [7], [0, 3], [300, 700], [5, 64, 33], [2, 3, 5, 7], [3, 1, 900, 400], [1500, 1100], [1, 2000]]
    tensors, whole = [], []
    for i, shape in enumerate(shapes):
        dtype = rng.choice(list(ITEM))
        data = rng.randbytes(volume(shape) * ITEM[dtype])
        whole.append((f"t{i}", dtype, shape, data))
        parts = boxes(rng, [0] * len(shape), shape, rng.randrange(0, 5)) if volume(shape) else [([0] * len(shape), shape)]
        rng.shuffle(parts)
        tensors.append((f"t{i}", dtype, shape, [(b, s, box_of(data, ITEM[dtype], shape, b, s)) for b, s in parts]))
    safetensors(place + "/whole.safetensors", whole, {"format": "pt"})
    ranks = [rng.randrange(4) for _ in range(100)]
    checkpoint(place, tensors, lambda i: ranks[i], True)


def evenly(place, how, mib, ranks):
    block, rows, columns = os.urandom(1 << 20), 4096, 2048
    size = [rows // ranks, columns] if how == "rows" else [rows, columns // ranks]
    data = (block * 17)[: volume(size) * 2]
    tensors = []
    for i in range(mib // 16):
        begins = [[r * size[0], 0] if how == "rows" else [0, r * size[1]] for r in range(ranks)]
        tensors.append((f"model.layers.{i}.weight", "BF16", [rows, columns], [(b, size, bytes([i % 256, r]) + data[2:]) for r, b in enumerate(begins)]))
    checkpoint(place, tensors, lambda i: i, False)


def views_pickle(views, behind):
    """A dict of tensors; behind: what a persistent id has at its end."""
    sizes = lambda a: b"(" + b"".join(map(number, a)) + b"t"
    out = b"\x80\x02}("
    for name, (dtype, key, count, offset, shape, stride) in views.items():
        storage = text("storage") + f"ctorch\n{STORAGE[dtype]}\n".encode() + text(key) + text("cpu") + number(count) + behind
        out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + number(offset) + sizes(shape) + sizes(stride) + b"\x89NtR"
    return out + b"u."


def legacy(views, storages):
    out = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}(" + text("little_endian") + b"\x88u." + views_pickle(views, b"N")
    out += b"\x80\x02](" + b"".join(map(text, sorted(storages))) + b"e."
    return out + b"".join(struct.pack("<q", storages[k][1]) + storages[k][2] for k in sorted(storages))


def view(rng, count):
    """Offset, shape and strides of a view of so many elements."""
    while True:
        rank = rng.randrange(6)
        shape = [rng.choice([0, 1, 1, 2, 2, 3, 3, 4, 5, 7]) for _ in range(rank)]
        stride = [rng.choice([0, 1, 1, 2, 3, 7, 20, 60]) for _ in range(rank)]
        last = sum((s - 1) * t for s, t in zip(shape, stride)) if 0 not in shape else 0
        if last < count:
            return rng.randrange(count - last), shape, stride


def views(place, seed):
    rng = random.Random(seed)
    storages, made, whole = {}, {}, []
    for k, (dtype, item) in enumerate(ITEM.items()):
        count = rng.randrange(500, 3000)
        storages[str(k)] = (dtype, count, rng.randbytes(count * item))
    for i in range(50):
        key = rng.choice(list(storages))
        dtype, count, data = storages[key]
        offset, shape, stride = view(rng, count)
        at, item = [offset], ITEM[dtype]
        for s, t in zip(shape, stride):
            at = [x + j * t for x in at for j in range(s)]
        made[f"v{i}"] = (dtype, key, count, offset, shape, stride)
        whole.append((f"v{i}", dtype, shape, b"".join(data[x * item : (x + 1) * item] for x in at)))
    members = [(b"data.pkl", views_pickle(made, b"")), (b"byteorder", b"little")] + [(b"data/" + k.encode(), v[2]) for k, v in storages.items()]
    with open(place + "/zip.pt", "wb") as f:
        f.write(archive(members + [(b"version", b"3\n")]))
    with open(place + "/legacy.pt", "wb") as f:
        f.write(legacy(made, storages))
    safetensors(place + "/whole.safetensors", whole, {"format": "pt"})


os.makedirs(sys.argv[1], exist_ok=True)
if sys.argv[2] == "random":
    at_random(sys.argv[1], int(sys.argv[3]))
elif sys.argv[2] == "views":
    views(sys.argv[1], int(sys.argv[3]))
else:
    evenly(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
