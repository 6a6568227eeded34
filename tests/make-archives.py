#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes archives that are wrong on purpose, and what has to be said of each: make-archives.py MODEL OUT.

OUT/NAME is an archive, and OUT/NAME.says has a text a line that the one line of the refusal has. MODEL is a checkpoint directory."""
import bz2, gzip, io, lzma, os, struct, sys, tarfile, zipfile, zlib

model, out = sys.argv[1:3]
files = {name: open(os.path.join(model, name), "rb").read() for name in sorted(os.listdir(model))}
weights = next(name for name in files if name.endswith(".safetensors"))


def says(name, *texts):
    with open(os.path.join(out, name + ".says"), "w") as f:
        f.writelines(text + "\n" for text in texts)


def write(name, data, *texts):
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)
    says(name, *texts)


def entry(name, **more):
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar(*added, form=tarfile.PAX_FORMAT, only=None):
    """A tar of the model, and of what is added: (TarInfo, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in (only or files).items():
            archive.addfile(entry("model/" + name, size=len(data)), io.BytesIO(data))
        for info, data in added:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(method=zipfile.ZIP_STORED, *added):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr("model/" + name, data)
        for name, data in added:
            archive.writestr(name, data)
    return buffer.getvalue()


def file(name, data=b"{}"):
    return entry(name, size=len(data)), data


plain = tar()
# ---- names ----
write("absolute.tar", tar(file("/etc/passwd")), "/etc/passwd", "absolute")
write("dotdot.tar", tar(file("model/../../evil.json")), "model/../../evil.json", "leads out")
write("dotdot-folder.tar", tar((entry("..", type=tarfile.DIRTYPE), b"")), "leads out")
write("backslash.tar", tar(file("model\\evil.json")), "backslash")
write("backslash.zip", zipped(zipfile.ZIP_STORED, ("model\\evil.json", b"{}")).replace(b"model/evil.json", b"model\\evil.json"), "backslash")
write("dotdot.zip", zipped(zipfile.ZIP_STORED, ("../evil.json", b"{}")), "../evil.json", "leads out")
write("absolute.zip", zipped(zipfile.ZIP_STORED, ("/evil.json", b"{}")), "/evil.json", "absolute")
write("no-name.tar", tar(file("./")), "without a name")
write("long-name.tar", tar(file("model/" + "x" * 5000)), "--limit=name=")
write("control.tar", tar(file("model/\x1b[31mevil")), r"\x1b[31mevil")
# ---- kinds ----
write("symlink.tar", tar((entry("model/x.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")), "model/x.json", "a symbolic link", "--dereference")
write("hardlink.tar", tar((entry("model/x.json", type=tarfile.LNKTYPE, linkname="model/config.json"), b"")), "model/x.json", "a hard link")
write("device.tar", tar((entry("model/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b"")), "model/null", "a device")
write("block.tar", tar((entry("model/sda", type=tarfile.BLKTYPE, devmajor=8), b"")), "model/sda", "a device")
write("fifo.tar", tar((entry("model/pipe", type=tarfile.FIFOTYPE), b"")), "model/pipe", "a FIFO")
link = zipfile.ZipInfo("model/x.json")
link.create_system, link.external_attr = 3, 0o120777 << 16
write("symlink.zip", zipped(zipfile.ZIP_STORED, (link, b"/etc/passwd")), "model/x.json", "a symbolic link")
# ---- twice ----
write("twice.tar", tar(file("model/config.json")), "model/config.json", "twice")
write("twice-dotted.tar", tar(file("./model//config.json")), "model//config.json", "twice")
zipfile.warnings = None
two = io.BytesIO(zipped())
with zipfile.ZipFile(two, "a") as archive:
    archive.writestr("model/config.jsoX", b"{}")
write("twice.zip", two.getvalue().replace(b"config.jsoX", b"config.json"), "model/config.json", "twice")
# ---- sparse: a map that says where the data of a file of GNU tar is ----
records = b"".join(b"%d %s\n" % (len(r) + 3 + (len(r) + 3 >= 10), r) for r in [b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=model/hole.json", b"GNU.sparse.realsize=99999999999999"])
hole = entry("PaxHeaders/x", type=tarfile.XHDTYPE, size=len(records))
data = entry("GNUSparseFile.0/hole.json", size=1024)
write("sparse.tar", tar((hole, records), (data, b"1\n99999999999990\n9\n".ljust(512, b"\0") + b"x" * 512), form=tarfile.USTAR_FORMAT), "hole.json")
# ---- cut off ----
write("cut-data.tar", plain[: plain.index(files[weights]) + 1000], "truncated", weights)
write("cut-end.tar", plain[: len(plain) - len(plain) % 512 - plain[::-1].index(plain.rstrip(b"\0")[-1:]) // 512 * 512], "truncated")
write("header-only.tar", plain[:512], "truncated")
for ending, packed in {"gz": gzip.compress(plain, mtime=0), "xz": lzma.compress(plain), "bz2": bz2.compress(plain)}.items():
    write("cut.tar." + ending, packed[: len(packed) * 2 // 3], "runcated" if ending != "bz2" else "archive")
    write("cut-tail.tar." + ending, packed[:-3], "")
write("cut.zip", zipped()[:-30], "truncated")
# ---- wrong ----
wrong = bytearray(plain)
wrong[10] ^= 1
write("sum.tar", bytes(wrong), "neither")
at = plain.index(b"model/" + weights.encode())
wrong = bytearray(plain)
wrong[at + 7] ^= 1
write("sum-later.tar", bytes(wrong), "damaged archive" if at else "neither")
stored = zipped()
wrong = bytearray(stored)
wrong[stored.index(files[weights]) + len(files[weights]) - 1] ^= 1
write("crc-weights.zip", bytes(wrong), weights, "CRC")
wrong = bytearray(stored)
wrong[stored.index(files["config.json"]) + 2] ^= 1
write("crc-config.zip", bytes(wrong), "config.json", "CRC")
deflated = bytearray(zipped(zipfile.ZIP_DEFLATED))
at = deflated.rindex(b"model/" + weights.encode()) - 46
deflated[at + 16] ^= 1
write("crc-deflated.zip", bytes(deflated), "CRC")
deflated = bytearray(zipped(zipfile.ZIP_DEFLATED))
at = deflated.rindex(b"model/config.json") - 46
deflated[at + 16] ^= 1
write("crc-deflated-config.zip", bytes(deflated), "config.json", "CRC")
packed = bytearray(gzip.compress(plain, mtime=0))
packed[-8] ^= 1
write("crc.tar.gz", bytes(packed), "gzip")
packed = bytearray(gzip.compress(plain, 0, mtime=0))
packed[packed.index(files[weights][-64:]) + 3] ^= 1
write("flip.tar.gz", bytes(packed), "gzip", "incorrect data check")
packed = bytearray(lzma.compress(plain, check=lzma.CHECK_CRC64))
packed[len(packed) // 2] ^= 1
write("flip.tar.xz", bytes(packed), "archive")
packed = bytearray(bz2.compress(plain))
packed[len(packed) // 2] ^= 1
write("flip.tar.bz2", bytes(packed), "bzip2")
write("junk-behind.tar.gz", gzip.compress(plain, mtime=0) + b"junk", "gzip")
write("two.tar", plain + plain, "are two of them joined?")
encrypted = bytearray(stored)
for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
    encrypted[encrypted.index(mark) + flags] |= 1
write("encrypted.zip", bytes(encrypted), "encrypted")
write("method.zip", zipped(zipfile.ZIP_LZMA), "packed by method 14")
# ---- bombs ----
zeros = {"model.safetensors": b"", "config.json": b"{}"}
header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (64 << 20, 64 << 20)
zeros["model.safetensors"] = struct.pack("<Q", len(header)) + header + bytes(64 << 20)
bomb = tar(only=zeros)
write("bomb.tar.gz", gzip.compress(bomb, mtime=0), "--limit=ratio=N")
write("bomb.tar.xz", lzma.compress(bomb, preset=0), "--limit=ratio=N")
write("bomb.tar.bz2", bz2.compress(bomb), "--limit=ratio=N")
side = tar(file("model/config.json", bytes(64 << 20)), only={"model.safetensors": files[weights]})
write("bomb-side.tar.gz", gzip.compress(side, mtime=0), "--limit=ratio=N")
files, kept = zeros, files
write("bomb.zip", zipped(zipfile.ZIP_DEFLATED), "--limit=ratio=N")
files = kept
# All members at one place.
one = io.BytesIO()
with zipfile.ZipFile(one, "w") as archive:
    archive.writestr("a.safetensors", files[weights])
    archive.writestr("b.safetensors", b"")
    archive.infolist()[1].header_offset = 0
    for what in ("file_size", "compress_size", "CRC"):
        setattr(archive.infolist()[1], what, getattr(archive.infolist()[0], what))
write("overlap.zip", one.getvalue(), "overlaps")
# ---- which one ----
both = tar(*[(entry("other/" + n, size=len(d)), d) for n, d in files.items()])
write("two-folders.tar", both, "model", "other", "--dir=")
write("no-checkpoint.tar", tar(only={"README": b"text"}), "no checkpoint here")
old = io.BytesIO()
with tarfile.open(fileobj=old, mode="w") as archive:
    for name in ("sys_info", "pickle", "storages", "tensors"):
        archive.addfile(entry(name, size=4), io.BytesIO(b"data"))
write("old-torch.tar", old.getvalue(), "PyTorch before 0.2")
write("missing-shard.tar", tar(only={n: d for n, d in files.items() if n != weights}), weights, "is not there, but the index names it")
