"""The cases of tests/stages that need no pipeline: sdstream.py against sd-stream(5), numpy, safetensors and the tools.

SPDX-License-Identifier: Apache-2.0
Without an argument it names the cases, with a name it runs that one: 0 passed, 77 a library is missing, else failed.
"""
import importlib
import io
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import sdstream
from sdstream import Error, Move, Reader, Writer

PAGE = pathlib.Path(__file__).resolve().parent.parent / "man/sd-stream.5"
SPELLED = {"F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E8M0": "float8_e8m0fnu",
           "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "BF16": "bfloat16"}


def library(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"python3 has no {name}")
        sys.exit(77)


def tool(command, data):
    """Exit status, stdout, stderr."""
    done = subprocess.run(command, input=data, capture_output=True)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def made(fill):
    """The stream that fill(writer) makes."""
    file = io.BytesIO()
    with Writer(file) as writer:
        fill(writer)
    return file.getvalue()


def read(data):
    """The head, and each record's bytes by key."""
    reader = Reader(io.BytesIO(data))
    return reader.head, {record.key: bytes(record.data) for record in reader}


def status(data):
    """0, or the exit status that a stage has for this input."""
    try:
        read(data)
    except Error as why:
        return why.status
    return 0


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def expect_raises(kind, do, *arguments):
    try:
        do(*arguments)
    except kind as why:
        return why
    raise AssertionError(f"no {kind.__name__} by {do.__name__}{arguments}")


def varied(writer):
    """One of everything: a step with an operand, moves, labels, fields and a frame that nobody knows, an empty record."""
    head = writer.head
    head.metadata, head.files, head.labels = {"format": "pt", "a": "b"}, {"config.json": b"{}\n"}, ["expert", "shared"]
    head.extra = [(b"NEWS", b"hello")]
    fp8, scale, empty = head.add("w8", "F8_E4M3", (2, 3)), head.add("s", "F32", (1, 1)), head.add("e", "I64", (0,))
    bf16, gone = head.add("b", "BF16", (2, 3)), head.add("m", "F32", (4,))
    gone.state, scale.targets = sdstream.MISSING, []
    head.targets = [target for target in head.targets if target.record is not scale]
    for record, place in (fp8, 0), (bf16, 1):
        target, = record.targets
        target.name, target.dtype, target.shape, target.labels = "w", "BF16", (2, 3, 2), frozenset({"expert"})
        target.move = Move(0, place, ((2, 3, 2), (3, 1, 4)))
    fp8.targets[0].fields = [(0x8001, struct.pack("<HHIII4Q", 2, 8, scale.number, 0, 2, 128, 1, 128, 1)), (7, b"later")]
    bf16.fields = [(9, b"later")]
    writer.write(fp8, b"ABCDEF")
    writer.write(scale, struct.pack("<f", 1))
    writer.write(empty, b"")
    writer.write(bf16, [b"abcdefg", b"hijkl"])


def page_streams():
    """The stream of the page, and the same with checksums, of which the page only has what is otherwise."""
    rows = [line.split("  >")[0].split() for line in PAGE.read_text().splitlines() if line.startswith("000") and ">" in line]
    data = [(int(row[0], 16), bytes.fromhex("".join(row[1:]))) for row in rows]
    second = next(i for i in range(1, len(data)) if data[i][0] == 0)
    expect([at for at, _ in data[:second]] == list(range(0, 0x280, 16)), "the rows")
    expect([at for at, _ in data[second:]] == [0, *range(0x180, 0x380, 16)], "the rows with checksums")
    plain = b"".join(row for _, row in data[:second])
    return plain, data[second][1] + plain[16:0x180] + b"".join(row for _, row in data[second + 1:])


def the_page():
    """The hexdump in sd-stream(5), read, and written again from nothing."""
    data, summed = page_streams()
    expect(read(summed)[1] == {"w": b"ABCDEFGHIJKL"}, "with checksums")
    head, contents = read(data)
    record, = head.records
    target, = head.targets
    expect((record.key, record.dtype, record.shape, record.state) == ("w", "BF16", (2, 3), sdstream.HERE), "the record")
    expect((target.record, target.name, target.dtype, target.shape, target.move, target.steps, target.labels)
           == (record, "w", "BF16", (2, 3), None, [], frozenset()), "the target")
    expect(contents == {"w": b"ABCDEFGHIJKL"} and not head.metadata and not head.files, contents)
    expect(made(lambda w: w.write(w.head.add("w", "BF16", (2, 3)), b"ABCDEFGHIJKL")) == data, "written again")


def the_tables_of_the_page():
    """The dtypes and their numbers."""
    cells = {}
    for line in PAGE.read_text().partition(".Ss Dtypes")[2].partition(".Ss")[0].splitlines():
        if line.startswith(".It"):
            words = [word for word in line[3:].split(" Ta ") if word.strip() != '""']
            cells.update((int(number), name.strip()) for number, name in zip(words[::2], words[1::2]))
    expect(cells == dict(enumerate(sdstream.DTYPES[1:], 1)), cells)


def a_varied_stream():
    data = made(varied)
    head, contents = read(data)
    expect(contents == {"w8": b"ABCDEF", "s": b"\0\0\x80?", "e": b"", "b": b"abcdefghijkl"}, contents)
    expect(head.targets[0].steps == [sdstream.Step(sdstream.SCALE, "BF16", 1, ((128, 1), (128, 1)))], head.targets[0].steps)
    head, _ = read(tool(["sd-rename", "-e", "s/zzz/y/"], data)[1])
    expect(head.extra == [(b"NEWS", b"hello")] and head.metadata["a"] == "b" and head.files == {"config.json": b"{}\n"}, "the head")
    expect(head.records[3].fields == [(9, b"later")] and (7, b"later") in head.targets[0].fields, "unknown fields are lost")
    # ABCDEF as F8_E4M3 is 2.25 to 3.5. Columns become rows, and the two records lie in each other's gaps.
    code, out, said = tool(["bash", "-c", "sd-rename --exclude '^m$' | sd-transpose --device=cpu | sd-pack"], data)
    expect(code == 0, said)
    numbers = [struct.pack("<f", 2.25 + i / 4)[2:] for i in range(6)], [b"ab", b"cd", b"ef", b"gh", b"ij", b"kl"]
    expected = b"".join(numbers[place][3 * row + column] for column in range(3) for row in range(2) for place in range(2))
    expect(expected in out, out)


def cut_anywhere():
    """A small stream that stops at any byte: truncated for this module, and for sd-pack, which leaves nothing."""
    data = made(lambda w: w.write(w.head.add("w", "BF16", (2, 3)), b"ABCDEFGHIJKL"))
    with tempfile.TemporaryDirectory() as folder:
        for end in range(len(data)):
            expect(status(data[:end]) == 3, f"{end} bytes are read")
            code, _, said = tool(["sd-pack", "--no-sync", "-o", f"{folder}/out"], data[:end])
            expect(code == 3 and not list(pathlib.Path(folder).iterdir()), f"{end} bytes: exit status {code}: {said}")
    expect(status(data) == 0 and status(data + b"\0") == 3 and status(data + data) == 3, "behind the end")
    data = made(varied)
    for end in range(len(data)):
        expect(status(data[:end]) == 3, f"{end} bytes of the varied stream are read")


def one_byte_changed():
    """This module and the tools agree on what is a stream, whatever byte is changed."""
    data, source = made(varied), random.Random(1)
    expect(status(data) == 0, "unchanged")
    for at, byte in enumerate(data):
        changed = bytearray(data)
        changed[at] = source.choice([value for value in (byte + 1 & 255, byte ^ 128, 0, 255) if value != byte])
        code, _, said = tool(["sd-rename", "-e", "s/zzz/y/"], bytes(changed))
        expect(code == status(bytes(changed)), f"byte {at:#x}, {byte:#x} -> {changed[at]:#x}: sd-rename exits with {code}: {said}")


def frame(kind, payload=b"", length=None, flags=0, record=0, encoding=0, offset=0):
    header = struct.pack("<4sIQIIQ32x", kind, flags, len(payload) if length is None else length, record, encoding, offset)
    return header + payload + bytes(-len(payload) % 64)


def beyond_the_limits():
    """Lengths and counts that no memory could hold are refused at once, by both sides."""
    data = made(lambda w: w.write(w.head.add("w", "U8", (4,)), b"ABCD"))
    prelude, meta, manifest, end = data[:64], data[64:192], data[192:384], data[-128:]
    expect(prelude + meta + manifest + frame(b"DATA", b"ABCD") + end == data, "the parts")
    body = manifest[64:160]
    huge = 1 << 62
    streams = {
        "magic": b"\x93SDT" + data[4:], "major": data[:8] + b"\2\0" + data[10:],
        "META": prelude + frame(b"META", length=huge), "MANI": prelude + meta + frame(b"MANI", length=huge),
        "SIDE": prelude + meta + frame(b"SIDE", length=huge), "unknown": prelude + frame(b"NEWS", length=huge, flags=1),
        "critical": prelude + meta + frame(b"NEWS") + manifest, "optional, endless": data[:384] + frame(b"NEWS", length=huge, flags=1),
        "ABRT": prelude + frame(b"ABRT", length=huge), "END": data[:-128] + frame(b"END ", length=huge),
        "entries": prelude + frame(b"META", struct.pack("<II", 5000, 0)) + manifest,
        "labels": prelude + meta + frame(b"MANI", body[:16] + b"\x21" + body[17:]),
        "records": prelude + meta + frame(b"MANI", struct.pack("<Q", huge) + body[8:]),
        "targets": prelude + meta + frame(b"MANI", body[:8] + struct.pack("<Q", huge) + body[16:]),
        "shape": prelude + meta + frame(b"MANI", body.replace(struct.pack("<Q", 4), struct.pack("<Q", huge))) + frame(b"DATA", b"A"),
        "rank": prelude + meta + frame(b"MANI", body[:30] + b"\x41" + body[31:]),
        "DATA": data[:384] + frame(b"DATA", length=huge), "DATA of 0": data[:384] + frame(b"DATA") + end,
        "encoding": data[:384] + frame(b"DATA", b"ABCD", encoding=1) + end,
        "record": data[:384] + frame(b"DATA", b"ABCD", record=1) + end,
        "offset": data[:384] + frame(b"DATA", b"ABCD", offset=1) + end,
        "too much": data[:384] + frame(b"DATA", b"ABCDE") + end, "too little": data[:384] + frame(b"DATA", b"ABC") + end,
        "nothing": data[:384] + end, "count": data[:-64] + b"\2" + data[-63:], "order": prelude + manifest,
        "side file": prelude + meta + frame(b"SIDE", b"\5\0\0\0../x1\0\0\0\0\0\0\0") + data[192:],
        "two META": prelude + meta + meta + data[192:],
    }
    for name, stream in streams.items():
        expect(status(stream) == 3, f"{name}: read here")
        code, _, said = tool(["sd-rename", "-e", "s/zzz/y/"], stream)
        expect(code == 3, f"{name}: sd-rename exits with {code}: {said}")


def what_is_optional():
    """Optional frames behind the manifest are passed over; a minor version that is not known is read."""
    data = made(lambda w: w.write(w.head.add("w", "U8", (4,)), b"ABCD"))
    longer = data[:384] + frame(b"NEWS", b"x" * 100, flags=1) + data[384:-128] + frame(b"NEWS", flags=1) + data[-128:]
    for stream in longer, data[:10] + b"\7\0" + data[12:]:
        expect(read(stream)[1] == {"w": b"ABCD"}, "read otherwise")
        expect(tool(["sd-rename", "-e", "s/zzz/y/"], stream)[:2] == (0, data), "sd-rename reads it otherwise")


def known_kinds_have_their_place():
    """Both sides agree on what a flag makes of a frame: none of a known kind is passed on or over where it has no place."""
    plain = made(lambda w: w.write(w.head.add("w", "U8", (4,)), b"ABCD"))
    for data in (plain, page_streams()[1]):
        frames, at = [], 64
        while at < len(data):
            length, = struct.unpack_from("<Q", data, at + 8)
            frames.append((at, data[at:at + 64 + length + -length % 64]))
            at += len(frames[-1][1])
        known = [f for _, f in frames] + [frame(b"SIDE", b"\1\0\0\0x\0\0\0y")]
        known += [frame(kind, b"x" * 8) for kind in (b"SUM ", b"SUMS", b"DATA", b"MANI", b"END ")]
        for place, due in frames:
            for other in known:
                other = other[:4] + b"\1" + other[5:]
                stream = data[:place] + other + data[place:]
                code, _, said = tool(["sd-rename", "-e", "s/zzz/y/"], stream)
                where = f"{other[:4]} in front of {due[:4]}"
                expect(code == status(stream), f"{where}: sd-rename exits with {code}: {said}")
                expect(code == 3 or other[:4] == b"SIDE" and due[:4] in (b"SIDE", b"MANI"), f"{where}: exit status {code}")


def checksums_passed_over():
    """Without xxhash a stream with checksums is read, and what should be zero is looked at; what is written has none."""
    sdstream.xxh3_64 = None
    plain, data = page_streams()
    expect(copied(data) == plain, "copied otherwise")
    for at in list(range(0x190, 0x1c0)) + list(range(0x1d0, 0x200)) + list(range(0x24c, 0x280)) + list(range(0x350, 0x380)):
        expect_raises(Error, read, data[:at] + bytes([data[at] ^ 4]) + data[at + 1:])
    why = expect_raises(Error, lambda: Writer(io.BytesIO(), sums=True))
    expect("xxhash" in str(why), why)


def checksums():
    """Made, kept, made anew; every changed byte is found, by both sides."""
    library("xxhash")
    plain, data = page_streams()
    file = io.BytesIO()
    with Writer(file, sums=True) as writer:
        writer.write(writer.head.add("w", "BF16", (2, 3)), b"ABCDEFGHIJKL")
    expect(file.getvalue() == data, "written from nothing")
    expect(copied(data) == data and copied(plain) == plain and copied(plain, True) == data, "copied otherwise")
    for at in range(8, len(data)):
        expect_raises(Error, read, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:])
    why = expect_raises(Error, read, data.replace(b"ABCD", b"ABCE"))
    expect(str(why).startswith("w: "), why)
    varied_data = copied(made(varied), True)
    code, out, said = tool(["sd-cat", "--checksum"], varied_data)
    expect(code == 0 and read(out)[1] == read(varied_data)[1], said)
    code, out, said = tool(["sd-transpose", "--device=cpu"], tool(["sd-rename", "--exclude", "^m$"], varied_data)[1])
    expect(code == 0 and len(read(out)[1]) == 3, said)
    large = made(lambda w: w.write(w.head.add("w", "U8", (20 << 20,)), bytes(range(256)) * (20 << 12)))
    code, out, said = tool(["sd-cat", "--checksum"], large)
    expect(code == 0 and copied(out) == out and copied(large, True) == out, said)


def copied(data, sums=None):
    """The stream as a stage copies it."""
    file = io.BytesIO()
    reader = Reader(io.BytesIO(data))
    with Writer(file, reader, sums) as writer:
        for record in reader:
            writer.write(record)
    return file.getvalue()


def aborts():
    """In the place of any frame; who has failed, why and with what arrives as it is."""
    data = made(varied)
    places, at = [64], 64
    while at < len(data):
        length, = struct.unpack_from("<Q", data, at + 8)
        at += 64 + length + -length % 64
        places.append(at)
    for place in places[:-1]:
        stream = data[:place] + frame(b"ABRT", struct.pack("<II", 4, 1) + sdstream._text("sd-x") + sdstream._text("a disk"))
        why = expect_raises(sdstream.Abort, read, stream)
        expect((why.status, why.told, why.tool, str(why)) == (4, True, "sd-x", "a disk"), vars(why))
        expect(tool(["sd-rename", "-e", "s/zzz/y/"], stream)[0] == 4, "sd-rename")


def all_dtypes():
    """Streams from nothing, of all dtypes: sd-pack writes what the safetensors library writes, and reads back."""
    safetensors = library("safetensors")
    source = random.Random(2)
    tensors = {}
    for i, dtype in enumerate([d for d in sdstream.DTYPES[1:] if d[:2] not in ("F4", "F6")] * 3):
        shape = tuple(source.choice((0, 1, 2, 3, 7)) for _ in range(source.randrange(5)))
        size = sdstream.BITS[dtype] // 8
        for n in shape:
            size *= n
        tensors[f"t.{i}"] = (dtype, shape, source.randbytes(size))

    def fill(writer):
        records = [writer.head.add(name, dtype, shape) for name, (dtype, shape, _) in tensors.items()]
        for record in records:
            writer.write(record, tensors[record.key][2])

    code, out, said = tool(["sd-pack"], made(fill))
    expect(code == 0, said)
    loaded = {name: (entry["dtype"], tuple(entry["shape"]), bytes(entry["data"])) for name, entry in safetensors.deserialize(out)}
    expect(loaded == tensors, "the library reads other tensors")
    code, out, said = tool(["sd-cat"], out)
    expect(code == 0 and read(out)[1] == {name: data for name, (_, _, data) in tensors.items()}, "sd-cat sends other tensors")


def arrays():
    """Arrays are what numpy thinks, and what is written to them, or in their place, is sent."""
    numpy = library("numpy")
    values = numpy.arange(6, dtype="<f4").reshape(2, 3)

    def fill(writer):
        a, b, c, d = (writer.head.add(key, "F32", (2, 3)) for key in "abcd")
        zero, none = writer.head.add("zero", "F16", ()), writer.head.add("none", "BOOL", (0, 4))
        for record in a, b, c:
            writer.write(record, values)
        writer.write(d, values.T.copy().T)          # not contiguous
        expect_raises(ValueError, writer.write, zero, values)
        writer.write(zero, numpy.array(1.5, "<f2"))
        writer.write(none, numpy.zeros((0, 4), bool))

    data = made(fill)
    reader, file = Reader(io.BytesIO(data)), io.BytesIO()
    with Writer(file, reader) as writer:
        reader.head.records[2].retype("F64", (3, 2))
        for record in reader:
            if record.key == "a":
                record.array *= 2
            elif record.key == "b":
                record.data[4:8] = struct.pack("<f", 7)
            elif record.key == "c":
                record.array = record.array.T.astype("<f8") + 1
            elif record.key == "d":
                expect_raises(ValueError, writer.write, record, record.array.astype("<i4"))
                expect_raises(ValueError, writer.write, record, record.array.T)
            elif record.key == "zero":
                expect(record.array.shape == () and record.array == 1.5, record.array)
            writer.write(record)
    got = {record.key: record.array.copy() for record in Reader(io.BytesIO(file.getvalue()))}
    replaced = values.copy()
    replaced[0, 1] = 7
    for key, expected in dict(a=values * 2, b=replaced, c=values.T.astype("<f8") + 1, d=values).items():
        expect(got[key].dtype == expected.dtype and numpy.array_equal(got[key], expected), f"{key}: {got[key]}")


def bf16():
    """The conversions of BF16 against ml_dtypes: every BF16, and floats at and around every tie."""
    numpy, ml_dtypes = library("numpy"), library("ml_dtypes")
    every = numpy.arange(65536, dtype=numpy.uint16)
    exact = every.view(ml_dtypes.bfloat16).astype(numpy.float32)
    expect(numpy.array_equal(sdstream.bf16_to_f32(every), exact, equal_nan=True), "to F32")
    bits = (every.astype(numpy.uint32)[:, None] << 16) + numpy.array([0, 1, 0x7fff, 0x8000, 0x8001, 0xffff], numpy.uint32)
    floats = bits.view(numpy.float32)
    with numpy.errstate(all="ignore"):
        expected = floats.astype(ml_dtypes.bfloat16)
    got = sdstream.f32_to_bf16(floats).view(ml_dtypes.bfloat16)
    same = (got.view(numpy.uint16) == expected.view(numpy.uint16)) | (numpy.isnan(got) & numpy.isnan(expected))
    expect(same.all(), floats[~same])


def chunks():
    """Chunks are whole, whatever the frames: of CHUNK bytes but for the last."""
    size = sdstream.CHUNK + 24
    content = random.Random(3).randbytes(size)
    data = made(lambda w: w.write(w.head.add("w", "F64", (size // 8,)), [content[:5], content[5:]]))
    for record in Reader(io.BytesIO(data)):
        runs = [bytes(chunk) for chunk in record.chunks()]
        expect([len(run) for run in runs] == [sdstream.CHUNK, 24] and b"".join(runs) == content, "other chunks")
        expect_raises(ValueError, lambda: record.data)


def the_example():
    """The stage in the module's own text doubles norms of BF16, and leaves other numbers alone."""
    numpy, ml_dtypes = library("numpy"), library("ml_dtypes")
    lines = sdstream.__doc__.split("\n\n")
    stage = next("\n".join(line[4:] for line in (a + "\n" + b).split("\n"))
                 for a, b in zip(lines, lines[1:]) if a.strip() == "import sdstream")
    norm = (numpy.arange(8, dtype=numpy.float32) - 3).astype(ml_dtypes.bfloat16)

    def fill(writer):
        for record in [writer.head.add(name, "BF16", (8,)) for name in ("model.norm.weight", "model.up.weight")]:
            writer.write(record, norm.view(numpy.uint16))

    code, out, err = tool([sys.executable, "-c", stage], made(fill))
    got = {r.name: r.array.view(ml_dtypes.bfloat16).astype(float).tolist() for r in Reader(io.BytesIO(out))} if code == 0 else err
    expect(got == {"norm.weight": [-6, -4, -2, 0, 2, 4, 6, 8], "up.weight": [-3, -2, -1, 0, 1, 2, 3, 4]}, got)


def dropped_and_renamed():
    """What sd-rename does by hand: the same manifest but for the records that went elsewhere, and the same tensors."""
    data = made(lambda w: [w.write(record, b"ABCD") for record in [w.head.add(key, "U8", (4,)) for key in ("a.w", "a.b", "c")]])
    reader, file = Reader(io.BytesIO(data)), io.BytesIO()
    with Writer(file, reader) as writer:
        reader.head.drop(reader.head.records[1])
        for target in reader.head.targets:
            target.name = target.name.replace("a.", "x.")
        for record in reader:
            writer.write(record)
    by_hand = tool(["sd-rename", "-e", r"s/a\./x./", "--exclude", "x.b"], data)[1]
    expect(tool(["sd-pack"], file.getvalue())[:2] == tool(["sd-pack"], by_hand)[:2] and tool(["sd-pack"], by_hand)[0] == 0, "other tensors")


def added():
    """A stage may add tensors; they come behind the others."""
    data = made(lambda w: w.write(w.head.add("w", "U8", (4,)), b"ABCD"))
    reader, file = Reader(io.BytesIO(data)), io.BytesIO()
    with Writer(file, reader) as writer:
        new = writer.head.add("sum", "I64", ())
        for record in reader:
            total = sum(record.data)
            writer.write(record)
        writer.write(new, struct.pack("<q", total))
    expect(read(file.getvalue())[1] == {"w": b"ABCD", "sum": struct.pack("<q", 266)}, "read otherwise")
    expect(tool(["sd-rename", "-e", "s/zzz/y/"], file.getvalue())[:2] == (0, file.getvalue()), "sd-rename")


CASES = (the_page, the_tables_of_the_page, a_varied_stream, cut_anywhere, one_byte_changed, beyond_the_limits, what_is_optional,
         checksums_passed_over, checksums,
         aborts, all_dtypes, arrays, bf16, the_example, chunks, dropped_and_renamed, added)
if len(sys.argv) < 2:
    print("\n".join(case.__name__ for case in CASES))
else:
    next(case for case in CASES if case.__name__ == sys.argv[1])()
