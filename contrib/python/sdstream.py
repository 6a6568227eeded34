# SPDX-License-Identifier: Apache-2.0
"""Read and write the stream of the sd-tools, sd-stream(5), for a stage of your own in a pipeline.

    import sdstream

    with sdstream.stage() as (r, w):                    # standard input, standard output
        for target in r.head.targets:                   # the manifest: change it before the first write
            target.name = target.name.removeprefix("model.")
        for record in r:                                # the data, one record at a time
            if record.name.endswith("norm.weight") and record.dtype == "BF16":
                record.array = sdstream.f32_to_bf16(sdstream.bf16_to_f32(record.array) * 2)
            w.write(record)

    sd-cat model/ | python3 my_stage.py | sd-pack -o out/

A record is data in the stream: key, dtype, shape, state. A target is what becomes of it: the name, dtype and shape of
a tensor; a move, if the record is only a part of that tensor or its elements change their order; and steps that are
still to be carried out (a cast, a scale). Mostly a record has one target with neither. head also has metadata, files
(config.json and so on), labels, and whatever optional parts of the stream this module does not know: they go on.

record.data is the record's bytes, a memoryview that may be written to; record.array the same as a numpy array, to be
written to (record.array[:] *= 2) or replaced. numpy has no BF16 and no FP8: their arrays are uint16 and uint8, the bare
bits, with which nothing can be reckoned; bf16_to_f32() and f32_to_bf16() convert.
record.chunks() gives the data in runs of 8 MiB, for what is too large to have whole. Memory holds the manifest, the
side files, and the data of one record if you ask for it whole, else 8 MiB.

w.write(record) sends a record on, with what was changed in its data or array; w.write(record, data) sends other data:
bytes, an array, or an iterable of bytes. Records go in their order, each that is here exactly once.

What shall be otherwise in the manifest is told before the first write: record.retype("BF16", (2, 3)) for another dtype or
shape; head.drop(record) for one that shall not go on, write() of which sends nothing then; head.add(key, dtype, shape)
for a new one, which comes behind all others.

stage() ends as the sd-tools do: 0 done, 2 usage, 3 bad or truncated input, 4 I/O; one line on standard error, by the
last program of the pipeline. Raise Error("what is wrong") to fail so. Any other exception is a mistake of the stage:
Python tells it, exits with 1, and so do the stages behind. print() goes to standard error.

Reader and Writer alone work on any binary file: they raise Error, and neither print nor exit. Streams from nothing:

    with sdstream.Writer(file) as w:
        a = w.head.add("a", "F32", (2, 3))
        w.write(a, array)

A stream may have checksums. With the module xxhash they are compared as the data come, and a stage's stream has them if
the one that it reads has; Writer(file, sums=True) and stage(sums=True) make them for one that has none. Without that
module they are passed over, and what is written has none.

It needs Python 3.9 and the standard library; numpy only where arrays are asked for, xxhash only for checksums.
"""
import contextlib
import errno
import math
import os
import re
import signal
import stat
import struct
import sys
from typing import NamedTuple

try:
    from xxhash import xxh3_64
except ImportError:
    xxh3_64 = None

MAGIC = b"\x93SDS\r\n\x1a\n"
MAJOR, MINOR = 1, 1
CHUNK = 8 << 20
DTYPES = ("", "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E5M2FNUZ", "F8_E4M3FNUZ",
          "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F6_E3M2", "F6_E2M3", "F4", "BOOL")
BITS = dict(zip(DTYPES[1:], (64, 64, 64, 64, 32, 32, 32, 16, 16, 16, 16, 8, 8, 8, 8, 8, 8, 8, 6, 6, 4, 8)))
NUMPY = dict(zip(DTYPES[1:], ("<u8", "<i8", "<f8", "<c8", "<f4", "<u4", "<i4", "<u2", "<f2", "<u2", "<i2", "|u1", "|u1",
                              "|u1", "|u1", "|u1", "|i1", "|u1", None, None, None, "|b1")))
HERE, ELSEWHERE, MISSING = range(3)
CAST, SCALE, UNPACK, FILL, DECODE, WITH = 1, 2, 3, 4, 5, 6
NONE = 0xffffffff

_ZSTD = b"\x28\xb5\x2f\xfd"
_STEP = 0x8001
_CRITICAL = 0x8000
_MAX_ENTRIES, _MAX_LABELS, _MAX_RANK, _MAX_MOVE, _MAX_STEPS = 4096, 32, 64, 16, 64
_MAX_FILE, _MAX_FILES, _MAX_HEAD, _MAX_ABORT, _MAX_END = 64 << 20, 256 << 20, 1 << 32, 64 << 10, 64
# What no file's name has: a slash, control characters, what ends a line or changes the direction of writing.
_HARM = re.compile("[\0-\x1f/\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_KINDS = (b"META", b"SIDE", b"MANI", b"SUMS", b"DATA", b"SUM ", b"END ")
_MAX_TEXT = 2000
_SUMS = 1
_FRAME = struct.Struct("<4sIQIIQ32x")


class Error(Exception):
    """Something is wrong with a stream, in one line. status is the exit status of the house."""

    def __init__(self, text, status=3):
        super().__init__(text)
        self.status = status
        self.tool = os.path.basename(sys.argv[0]) if sys.argv[0] not in ("", "-c") else "python3"
        self.told = False


class Abort(Error):
    """Another program of the pipeline has failed, and says so in the stream."""

    def __init__(self, status, told, tool, text):
        super().__init__(text, status)
        self.tool, self.told = tool, told


class Move(NamedTuple):
    """Which elements of a record go where in a tensor: offsets, and (size, stride, stride) for each dimension."""
    source: int
    dest: int
    dims: tuple


class Step(NamedTuple):
    """A change of values that is to be carried out: CAST, SCALE with the record of that number, UNPACK, FILL, or
    DECODE and, behind it, WITH for each record that it takes."""
    kind: int
    dtype: str
    operand: int
    index: tuple
    param: int = 0


class _Held(NamedTuple):
    """The data of a record, whole."""
    data: object
    dtype: str
    shape: tuple


class _Entry:
    """A row of the manifest, which cannot change any more when the manifest is sent."""
    __slots__ = ("head",)

    def __setattr__(self, name, value):
        if self.head.sent and name not in ("data", "array"):
            raise ValueError(f"{name} = {value!r} comes too late: the manifest went out with the first write")
        super().__setattr__(name, value)

    def __init__(self, head, **values):
        object.__setattr__(self, "head", head)
        for name, value in values.items():
            setattr(self, name, value)


class Record(_Entry):
    """Data in the stream."""
    __slots__ = ("number", "key", "dtype", "shape", "state", "fields", "targets", "_reader")

    @property
    def name(self):
        """The name of the tensor that it goes into, of the first if there are several; without any, its key."""
        return self.targets[0].name if self.targets else self.key

    @property
    def size(self):
        """How many bytes it has."""
        return _size(self.key, self.dtype, self.shape)

    @property
    def data(self):
        """Its bytes, as a memoryview that may be written to: as they came, or what they were set to. write() sends them."""
        return memoryview(self._here()._load(self).data)

    @data.setter
    def data(self, data):
        self._here()._replace(self, data)

    @property
    def array(self):
        """The same as a numpy array over the same bytes."""
        import numpy

        held = self._here()._load(self)
        if NUMPY[held.dtype] is None:
            raise TypeError(f"{self.key}: numpy has no {held.dtype}; use data")
        return numpy.frombuffer(held.data, NUMPY[held.dtype]).reshape(held.shape)

    @array.setter
    def array(self, array):
        self._here()._replace(self, array)

    def chunks(self):
        """Its bytes as they came, in runs of CHUNK bytes, each valid until the next; they may be changed."""
        return self._here()._chunks(self)

    def retype(self, dtype, shape):
        """Other data will come: of this dtype and shape, for the record and its tensor."""
        if any(target.move or target.steps for target in self.targets):
            raise ValueError(f"{self.key}: a record with a move or pending steps keeps its dtype and shape")
        for entry in (self, *self.targets):
            entry.dtype, entry.shape = dtype, tuple(shape)

    def _here(self):
        if not self._reader:
            raise ValueError(f"{self.key}: this record was not read from a stream")
        return self._reader


class Target(_Entry):
    """What a record becomes: a tensor, or a part of one."""
    __slots__ = ("record", "name", "dtype", "shape", "labels", "move", "fields")

    @property
    def steps(self):
        """The pending steps, as tuples. To change them, change fields, which are (tag, bytes)."""
        return [_step(content) for tag, content in self.fields if tag == _STEP]


class Head:
    """All that comes before the data.

    metadata and files are dicts, labels a list of names, records and targets lists in the order of the manifest,
    extra the unknown optional frames as (kind, payload). sent is true when it cannot change any more.
    """

    def __init__(self):
        self.sent = False
        self.metadata, self.files, self.labels, self.records, self.targets, self.extra = {}, {}, [], [], [], []

    def add(self, key, dtype, shape):
        """A new record, here, that becomes a tensor of the same name."""
        record = Record(self, number=len(self.records), key=key, dtype=dtype, shape=tuple(shape), state=HERE, fields=[],
                        targets=[], _reader=None)
        self.records.append(record)
        self._add_target(record, key, dtype, tuple(shape), frozenset(), None, [])
        return record

    def drop(self, record):
        """Leave a record and its tensor out. The record stays in the manifest, as being elsewhere."""
        record.state = ELSEWHERE
        record.targets = []
        self.targets = [target for target in self.targets if target.record is not record]

    def _add_target(self, record, name, dtype, shape, labels, move, fields):
        target = Target(self, record=record, name=name, dtype=dtype, shape=shape, labels=labels, move=move, fields=fields)
        self.targets.append(target)
        record.targets.append(target)

    def _decode(self, payload, reader):
        cursor = _Cursor(payload, "manifest")
        nrecords, ntargets, nlabels = cursor.unpack("<QQI4x")
        if nlabels > _MAX_LABELS:
            raise cursor.error(f"{nlabels} labels; at most {_MAX_LABELS} are allowed")
        self.labels = [cursor.text() for _ in range(nlabels)]
        for number in range(nrecords):
            entry = cursor.entry(f"record {number}")
            dtype, state, rank = entry.unpack("<BBBx")
            shape = entry.numbers(_rank(entry, rank))
            self.records.append(Record(self, number=number, key=entry.text(), dtype=_dtype(entry, dtype), shape=shape,
                                       state=state, fields=entry.fields(()), targets=[], _reader=reader))
        for number in range(ntargets):
            entry = cursor.entry(f"target {number}")
            record, dtype, rank, flags, ndims, bits = entry.unpack("<IBBBBI")
            if record >= nrecords or flags > 1 or bits >> nlabels:
                raise entry.error(f"record {record}, flags {flags:#x}, labels {bits:#x}")
            shape = entry.numbers(_rank(entry, rank))
            move = None
            if flags:
                if ndims > _MAX_MOVE:
                    raise entry.error(f"a move of {ndims} dimensions")
                numbers = entry.numbers(2 + 3 * ndims)
                move = Move(numbers[0], numbers[1], tuple(zip(*[iter(numbers[2:])] * 3)))
            labels = frozenset(label for i, label in enumerate(self.labels) if bits >> i & 1)
            self._add_target(self.records[record], entry.text(), _dtype(entry, dtype), shape, labels, move,
                             entry.fields((_STEP,)))
        cursor.end()
        self.check()

    def _encode(self):
        parts = [struct.pack("<QQII", len(self.records), len(self.targets), len(self.labels), 0)]
        parts += map(_text, self.labels)
        for record in self.records:
            parts.append(_entry(struct.pack("<BBBB", DTYPES.index(record.dtype), record.state, len(record.shape), 0)
                                + _numbers(record.shape) + _text(record.key), record.fields))
        for target in self.targets:
            move = target.move
            content = struct.pack("<IBBBBI", target.record.number, DTYPES.index(target.dtype), len(target.shape),
                                  move is not None, len(move.dims) if move else 0,
                                  sum(1 << self.labels.index(label) for label in target.labels)) + _numbers(target.shape)
            if move:
                content += _numbers((move.source, move.dest)) + _numbers(x for dim in move.dims for x in dim)
            parts.append(_entry(content + _text(target.name), target.fields))
        return b"".join(parts)

    def check(self):
        """That all this is a manifest: raises Error if not."""
        _check_names("metadata", self.metadata, _MAX_ENTRIES)
        _check_names("side file", self.files, _MAX_ENTRIES)
        for name, content in self.files.items():
            _check_file(name, len(content))
        if sum(map(len, self.files.values())) > _MAX_FILES:
            raise Error("the side files have more than 256 MiB together")
        for record in self.records:
            _check_shape(record.key, record)
            if record.state not in (HERE, ELSEWHERE, MISSING):
                raise Error(f"{record.key}: state {record.state}")
        tensors = {}
        for target in self.targets:
            _check_shape(target.name, target)
            _check_target(target, self.records)
            dtype, shape = tensors.setdefault(target.name, (target.dtype, target.shape))
            if (dtype, shape) != (target.dtype, target.shape):
                raise Error(f"{target.name}: {target.record.key} makes it {target.dtype} {list(target.shape)}, "
                            f"another record {dtype} {list(shape)}")


class Reader:
    """Reads the stream in file, by default standard input. head is its head; iterating gives the records that are here."""

    def __init__(self, file=None):
        self._file = file
        self._head = None
        self._came = []                 # dtype, shape and state of each record, as its data come
        self._next = 0                  # the record to come
        self._current = self._held = None
        self._at = self._left = 0       # of the current record: bytes read; of its frame: bytes to be read
        self._count = self._bytes = 0
        self._done = False
        self.sums = False               # whether the stream has checksums; known with the head
        self._strict = False            # whether what should be zero must be
        self._head_hash = self._hash = None     # of the head's frame, and of the record, that is being read

    @property
    def head(self):
        """What comes before the data; read when it is asked for the first time."""
        if self._head is None:
            self._file = self._file or _standard("stdin", "a stream cannot be typed in; pipe one in, as sd-cat does")
            self._head = self._read_head()
        return self._head

    def __iter__(self):
        while record := self._advance():
            yield record
        self.finish()

    def finish(self):
        """Pass over what is left, and see that the stream ends properly."""
        while self._advance():
            pass
        if self._done:
            return
        kind, _, length, *_ = self._data_frame()
        if kind != b"END ":
            raise self._unexpected(kind, "the end")
        counts = _Cursor(self._payload(length, _MAX_END), "end")
        if counts.unpack("<QQ") != (self._count, self._bytes):
            raise Error(f"the end counts other records or bytes than the {self._count} and {self._bytes} that came")
        if self._strict:
            counts.end()
        self._end()

    def _advance(self):
        """Goes to the next record that is here, if there is one, past what is left of the current one."""
        records = self.head.records
        if self._current is not None:
            for _ in self._runs():
                pass
        self._current = self._held = None
        while self._next < len(self._came):     # behind these are those that the stage has added
            number = self._next
            self._next += 1
            if self._came[number][2] == HERE:
                self._current, self._at, self._left = number, 0, 0
                self._count += 1
                if self._hash:
                    self._hash.reset()
                return records[number]
        return None

    def _read_head(self):
        magic = self._file.read(len(MAGIC)) or b""
        while 0 < len(magic) < len(MAGIC) and (more := self._file.read(len(MAGIC) - len(magic))):
            magic += more
        if not magic:
            raise Error("there is nothing on the input, not even a stream without tensors")
        if magic.startswith(_ZSTD):
            raise Error("the input is compressed by zstd, which is not undone here; put zstd -dc in front")
        if not MAGIC.startswith(magic):
            raise Error("the input is not a stream; sd-cat makes one of a safetensors file or a directory")
        if magic != MAGIC:
            raise self._truncated()
        prelude = self._exactly(56)
        major, minor, flags = struct.unpack_from("<HHH", prelude)
        if major != MAJOR:
            raise Error(f"a stream of version {major}; this program reads version {MAJOR}")
        self.sums = bool(flags & _SUMS)
        if self.sums and xxh3_64:
            self._head_hash, self._hash = xxh3_64(magic + prelude), xxh3_64()
        head, bytes_left, order, parts = Head(), _MAX_FILES, 0, []
        while order < 2:
            kind, optional, length, *_ = self._frame()
            if kind == b"META" and order == 0:
                cursor = _Cursor(self._payload(length, _MAX_HEAD), "metadata")
                count, = cursor.unpack("<I4x")
                if count > _MAX_ENTRIES:
                    raise cursor.error(f"{count} entries; at most {_MAX_ENTRIES} are allowed")
                for _ in range(count):
                    key, value = cursor.text(), cursor.text()
                    if key in head.metadata:
                        raise Error(f"metadata: {key} is there twice")
                    head.metadata[key] = value
                order = 1
            elif kind == b"SIDE" and order == 1:
                cursor = _Cursor(self._payload(length, _MAX_FILE + 512), "side file")
                name, content = cursor.text(), cursor.rest()
                if name in head.files or len(head.files) == _MAX_ENTRIES:
                    raise Error(f"side file {name} is there twice, or there are more than {_MAX_ENTRIES}")
                _check_file(name, len(content))
                bytes_left -= len(content)
                head.files[name] = content
            elif kind == b"MANI" and order == 1:
                manifest = self._payload(length, _MAX_HEAD)
                order = 2
            elif optional and kind not in _KINDS:
                head.extra.append((kind, self._payload(length, _MAX_HEAD)))
            else:
                raise self._unexpected(kind, "the manifest")
            if bytes_left < 0:
                raise Error("the side files have more than 256 MiB together")
            parts.append((f"side file {name}" if kind == b"SIDE" else _printable(kind.decode("ascii", "replace")),
                          self._head_hash and self._head_hash.intdigest()))
            if self._head_hash:
                self._head_hash.reset()
        self._head_hash = None
        if self.sums:
            self._strict = minor <= MINOR
            self._check_head(parts)
        head._decode(manifest, self)
        self._came = [(record.dtype, record.shape, record.state) for record in head.records]
        return head

    def _check_head(self, parts):
        """The checksums of the head's frames, which come behind it."""
        kind, _, length, *_ = self._frame()
        if kind != b"SUMS" or length != 8 * len(parts):
            raise self._unexpected(kind, f"the checksums of the head's {len(parts)} frames")
        sums = _Cursor(self._payload(length, _MAX_HEAD), "checksums").numbers(len(parts))
        for (what, made), said in zip(parts, sums):
            if made not in (None, said):
                raise Error(f"the stream is damaged: {what} is not what its checksum says")

    def _check_sum(self):
        """The checksum that comes behind a record's data."""
        key = self._head.records[self._current].key
        kind, _, length, record, *_ = self._data_frame()
        if (kind, length, record) != (b"SUM ", 8, self._current):
            raise self._unexpected(kind, f"the checksum of {key}")
        said, = struct.unpack("<Q", self._payload(length, 8))
        if self._hash and self._hash.intdigest() != said:
            raise Error(f"{key}: its data are not what their checksum says")

    def _frame(self):
        """The header of the next frame. An abort is raised."""
        header = self._exactly(64)
        kind, flags, length, record, encoding, offset = _FRAME.unpack(header)
        if self._strict and kind in _KINDS and (any(header[32:]) or flags != (kind in (b"SUM ", b"SUMS"))
                                                or (kind not in (b"DATA", b"SUM ") and record)
                                                or (kind != b"DATA" and (encoding or offset))):
            raise self._damaged()
        if kind == b"ABRT":
            cursor = _Cursor(self._payload(length, _MAX_ABORT), "abort")
            status, told, tool, text = *cursor.unpack("<II"), cursor.text(), cursor.text()
            if not 1 <= status <= 4:
                raise cursor.error(f"exit status {status}")
            self._done = True
            if _is_kept(self._file):
                raise Error(f"this stream was given up when it was made: {tool}: {text}")
            raise Abort(status, told != 0, tool, text)
        return kind, flags & 1, length, record, encoding, offset

    def _data_frame(self):
        """The header of the next frame behind the manifest; what is optional is passed over."""
        while True:
            kind, optional, length, *_ = frame = self._frame()
            if not optional or kind in _KINDS:
                return frame
            length += -length % 64
            while length:
                length -= len(self._exactly(min(length, CHUNK)))

    def _end(self):
        self._done = True
        if self._file.read(1):
            raise Error("there are bytes after the end of the stream; sd-cat a.sds b.sds joins streams")

    def _unexpected(self, kind, place):
        name = kind.decode("ascii", "replace")
        return Error(f"the frame {_printable(name)!r} stands in the place of {place}")

    def _damaged(self):
        return Error("the stream is damaged: what should be zero is not")

    def _truncated(self):
        return Error("the stream is truncated: it stops without its end")

    def _into(self, view):
        """Fills view."""
        left = view
        while left:
            count = self._file.readinto(left)
            if not count:
                raise self._truncated()
            left = left[count:]
        if self._head_hash:
            self._head_hash.update(view)

    def _exactly(self, size):
        buffer = bytearray(size)
        self._into(memoryview(buffer))
        return buffer

    def _payload(self, length, limit):
        """A whole payload. Memory grows with what comes, not with what is claimed."""
        if length > limit:
            raise Error(f"a frame of {length} bytes, where at most {limit} are allowed")
        payload = bytearray()
        while len(payload) < length:
            payload += self._exactly(min(length - len(payload), CHUNK))
        self._padding(length)
        return bytes(payload)

    def _padding(self, length):
        if any(self._exactly(-length % 64)) and self._strict:
            raise self._damaged()

    def _size(self):
        dtype, shape, _ = self._came[self._current]
        return math.prod(shape) * BITS[dtype] // 8

    def _run(self, limit):
        """How many bytes, at most limit, of the current record's frame can be read now; 0 at its end."""
        size, key = self._size(), self._head.records[self._current].key
        if not self._left and self._at < size:
            kind, _, length, record, encoding, offset = self._data_frame()
            if kind != b"DATA":
                raise self._unexpected(kind, f"the data of {key}, of which {self._at} bytes of {size} have come")
            if (record, offset) != (self._current, self._at) or not 0 < length <= size - self._at:
                raise Error(f"{key}: {length} bytes of record {record} at {offset} come "
                            f"where record {self._current} is at {self._at} of {size}")
            if encoding:
                raise Error(f"{key}: data in encoding {encoding}, which was not agreed on")
            self._left = self._length = length
        return min(self._left, limit)

    def _take(self, view):
        """Fills view with bytes of the current frame."""
        self._into(view)
        if self._hash:
            self._hash.update(view)
        self._at += len(view)
        self._left -= len(view)
        self._bytes += len(view)
        if not self._left:
            self._padding(self._length)
            if self.sums and self._at == self._size():
                self._check_sum()

    def _runs(self):
        """The rest of the current record as it comes, frame by frame, but for frames longer than CHUNK."""
        buffer = memoryview(bytearray(min(CHUNK, self._size() - self._at)))
        while run := self._run(CHUNK):
            self._take(buffer[:run])
            yield buffer[:run]

    def _must_be_current(self, record):
        if record.number != self._current:
            raise ValueError(f"{record.key}: the data of a record are there only until the next one is read")

    def _load(self, record):
        self._must_be_current(record)
        if self._held is None:
            held = bytearray()
            for run in self._rest(record):
                held += run
            dtype, shape, _ = self._came[record.number]
            self._held = _Held(held, dtype, shape)
        return self._held

    def _replace(self, record, data):
        self._must_be_current(record)
        self._held = _Held(_flat(record, data), record.dtype, record.shape)

    def _rest(self, record):
        """The data of the current record, all of it: from memory, or as they come."""
        self._must_be_current(record)
        if self._held:
            return [self._held.data]
        if self._at:
            raise ValueError(f"{record.key}: its data have been written or taken in chunks already")
        return self._runs()

    def _chunks(self, record):
        self._must_be_current(record)
        if self._at:
            raise ValueError(f"{record.key}: its data have been read already")
        buffer = memoryview(bytearray(min(CHUNK, self._size())))
        while self._at < self._size():
            chunk = buffer[:self._size() - self._at]
            filled = 0
            while filled < len(chunk):
                run = self._run(len(chunk) - filled)
                self._take(chunk[filled:filled + run])
                filled += run
            yield chunk


class Writer:
    """Writes a stream to file, by default standard output; with a Reader, what that one reads, with its head.

    As a context manager it ends the stream; or, after an exception, aborts it, so that the programs behind know.
    """

    def __init__(self, file=None, reader=None, sums=None):
        if sums and not xxh3_64:
            raise Error("for checksums Python needs the module xxhash", status=4)
        self._sums = sums               # None: as the reader's stream
        self._parts = []                # checksums of the frames of the head
        self._hash = None
        self._file = file or _standard("stdout", "a stream is not for a terminal; pipe it into sd-pack or sd-ls")
        self._reader = reader
        self._next = self._count = self._bytes = 0
        self._begun = self._broken = False
        self._head = None if reader else Head()

    @property
    def head(self):
        """What is written before the data: the reader's, or an empty one to be filled."""
        if self._head is None:
            self._head = self._reader.head
        return self._head

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            try:
                self.close()
            except BaseException as why:
                self.abort(why)
                raise
        else:
            self.abort(error)

    def write(self, record, data=None):
        """The data of a record: those that came, or data, which are bytes, an array or an iterable of bytes.

        Of a record that is not here, nothing.
        """
        if record.head is not self.head:
            raise ValueError(f"{record.key}: this record is not in the head of what is written")
        self._send_head()
        if record.state != HERE:
            return
        self._expect(record)
        if data is None:
            data = record._here()._rest(record)
        elif _is_buffer(data):
            data = [_flat(record, data)]
        at, size = 0, record.size
        hasher = self._sums and xxh3_64()
        for run in data:
            run = _bytes(run)
            if len(run) > size - at:
                raise ValueError(f"{record.key}: more than the {size} bytes of {record.dtype} {list(record.shape)}")
            for start in range(0, len(run), CHUNK):
                part = run[start:start + CHUNK]
                self._frame(b"DATA", part, record=record.number, offset=at)
                at += len(part)
                if hasher:
                    hasher.update(part)
        if at < size:
            raise ValueError(f"{record.key}: {at} bytes, where {record.dtype} {list(record.shape)} has {size}")
        if hasher and size:
            self._frame(b"SUM ", struct.pack("<Q", hasher.intdigest()), flags=1, record=record.number)
        self._next = record.number + 1
        self._count += 1
        self._bytes += size

    def close(self):
        """The end of the stream. If there is a reader, its stream must have ended well."""
        if self._reader:
            self._reader.finish()
        self._send_head()
        self._expect(None)
        self._frame(b"END ", struct.pack("<QQ", self._count, self._bytes))
        self._flush()

    def abort(self, error):
        """Tell the programs behind of a failure, in place of what was to come. The user is told by this one."""
        status, _, tool, text = _failure(error)
        if self._broken or not status:
            return
        with contextlib.suppress(OSError):
            self._prelude()
            self._frame(b"ABRT", struct.pack("<II", status, 1) + _text(tool) + _text(_printable(text)[:_MAX_TEXT]))
            self._flush()

    def _send_head(self):
        if self.head.sent:
            return
        self.head.check()
        payload = self.head._encode()
        self._prelude()
        entries = self.head.metadata.items()
        self._frame(b"META", struct.pack("<II", len(entries), 0) + b"".join(_text(key) + _text(value) for key, value in entries))
        for name, content in self.head.files.items():
            self._frame(b"SIDE", _text(name) + bytes(content))
        for kind, content in self.head.extra:
            self._frame(kind, content, flags=1)
        self._frame(b"MANI", payload)
        if self._sums:
            self._hash = None
            self._frame(b"SUMS", struct.pack(f"<{len(self._parts)}Q", *self._parts), flags=1)
        self.head.sent = True

    def _expect(self, record):
        """That record, or the end if None, is what is to be written next."""
        records = self.head.records
        if record and record.number < self._next:
            raise ValueError(f"{record.key}: this record was written already, or one behind it")
        for skipped in records[self._next:record.number if record else None]:
            if skipped.state == HERE:
                raise ValueError(f"{skipped.key} was not written; head.drop(record), before the first write, leaves it out")

    def _prelude(self):
        if not self._begun:
            self._begun = True
            if self._sums is None:
                self._sums = bool(self._reader and self._reader.sums and xxh3_64)
            self._hash = xxh3_64() if self._sums else None
            self._put(struct.pack("<8sHHH50x", MAGIC, MAJOR, MINOR, _SUMS if self._sums else 0))

    def _frame(self, kind, payload, flags=0, record=0, offset=0):
        self._put(_FRAME.pack(kind, flags, len(payload), record, 0, offset))
        self._put(payload)
        self._put(bytes(-len(payload) % 64))
        if self._hash:
            self._parts.append(self._hash.intdigest())
            self._hash.reset()

    def _put(self, data):
        view = memoryview(data)
        if self._hash:
            self._hash.update(view)
        try:
            while view:
                view = view[self._file.write(view):]
        except OSError:
            self._broken = True
            raise

    def _flush(self):
        try:
            self._file.flush()
        except OSError:
            self._broken = True
            raise



@contextlib.contextmanager
def stage(sums=None):
    """A Reader of standard input and a Writer of standard output, in a program that ends as the sd-tools do."""
    reader = Reader()
    with program(), Writer(reader=reader, sums=sums) as writer, contextlib.redirect_stdout(sys.stderr):
        yield reader, writer


@contextlib.contextmanager
def program():
    """Failures in here end the program with one line and the exit status of the sd-tools; Reader and Writer go inside."""
    try:
        yield
    except BrokenPipeError:
        _die(signal.SIGPIPE)
    except KeyboardInterrupt:
        _die(signal.SIGINT)
    except (Error, OSError) as why:
        status, told, tool, text = _failure(why)
        if not told and sys.stderr:
            print(f"{tool}: {_printable(text)[:_MAX_TEXT]}", file=sys.stderr)
        # What could not be written must not be tried again when Python ends.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(status)


def bf16_to_f32(bits):
    """An array of BF16, which are uint16 to numpy, as float32. Exact."""
    import numpy

    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


def f32_to_bf16(array):
    """A float32 array rounded to BF16, to nearest, ties to even, as uint16. A NaN stays a NaN."""
    import numpy

    bits = numpy.asarray(array, numpy.float32).view(numpy.uint32)
    rounded = (bits + 0x7fff + (bits >> 16 & 1) >> 16).astype(numpy.uint16)
    return numpy.where(numpy.isnan(array), (bits >> 16 | 0x40).astype(numpy.uint16), rounded)


class _Cursor:
    """Takes a payload apart, and never reads behind its end."""

    def __init__(self, data, what, start=0, end=None):
        self._data, self._what, self._at = data, what, start
        self._end = len(data) if end is None else end

    def error(self, text):
        return Error(f"{self._what}: {text}")

    def take(self, size):
        if size > self._end - self._at:
            raise self.error("it ends in the middle")
        self._at += size
        return self._data[self._at - size:self._at]

    def unpack(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def numbers(self, count):
        return self.unpack(f"<{count}Q")

    def text(self):
        length, = self.unpack("<I")
        text = self.take(length)
        if 0 in text or self.take(1 + -(5 + length) % 8)[0]:
            raise self.error("a text with a zero in it, or without one behind it")
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise self.error("a text is not UTF-8") from None

    def entry(self, what):
        size, = struct.unpack("<I", self.take(4))
        if size < 8 or size % 8:
            raise self.error(f"{what} has {size} bytes")
        start = self._at
        self.take(size - 4)
        return _Cursor(self._data, f"{self._what}, {what}", start, self._at)

    def fields(self, known):
        fields = []
        while self._at < self._end:
            tag, length = self.unpack("<II")
            if tag & _CRITICAL and tag not in known:
                raise self.error(f"a field {tag:#x} that this program does not know and must")
            fields.append((tag, self.take(length)))
            self.take(-length % 8)
        return fields

    def rest(self):
        return self.take(self._end - self._at)

    def end(self):
        if self._at < self._end:
            raise self.error(f"{self._end - self._at} bytes too many")


def _text(text):
    if "\0" in text:
        raise Error(f"{_printable(text)!r}: a text in a stream has no zero in it")
    data = text.encode()
    return struct.pack("<I", len(data)) + data + bytes(1 + -(5 + len(data)) % 8)


def _numbers(numbers):
    numbers = tuple(numbers)
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def _entry(content, fields):
    for tag, data in fields:
        content += struct.pack("<II", tag, len(data)) + data + bytes(-len(data) % 8)
    return struct.pack("<I", 4 + len(content)) + content


def _dtype(entry, number):
    if not 0 < number < len(DTYPES):
        raise entry.error(f"an unknown dtype {number}")
    return DTYPES[number]


def _rank(entry, rank):
    if rank > _MAX_RANK:
        raise entry.error(f"rank {rank}; at most {_MAX_RANK} is allowed")
    return rank


def _size(name, dtype, shape):
    bits = math.prod(shape) * BITS[dtype]
    if bits % 8 or bits >> 64:
        raise Error(f"{name}: {dtype} {list(shape)} is no whole number of bytes, or too many")
    return bits // 8


def _step(content):
    cursor = _Cursor(content, "step")
    kind, dtype, operand, param, ndims = cursor.unpack("<HHIII")
    numbers = cursor.numbers(2 * _rank(cursor, ndims))
    return Step(kind, _dtype(cursor, dtype), operand, tuple(zip(numbers[::2], numbers[1::2])), param)


def _check_names(what, names, limit):
    if len(names) > limit or len(set(names)) < len(names):
        raise Error(f"a {what} is there twice, or there are more than {limit}")


def _check_file(name, size):
    if not 0 < len(name.encode()) <= 255 or name[0] in ".-" or _HARM.search(name):
        raise Error(f"side file {_printable(name)!r}: not a name for a side file")
    if size > _MAX_FILE:
        raise Error(f"side file {name}: {size} bytes; at most {_MAX_FILE} are allowed")


def _check_shape(name, entry):
    if entry.dtype not in BITS or len(entry.shape) > _MAX_RANK or not all(0 <= n < 1 << 64 for n in entry.shape):
        raise Error(f"{name}: {entry.dtype} {list(entry.shape)} is not a dtype and a shape")
    _size(name, entry.dtype, entry.shape)


def _decoded(target):
    """How many elements the first step makes of the record."""
    first = target.steps[0] if target.steps else None
    if first and first.kind == DECODE:
        return math.prod(size for size, _ in first.index)
    return math.prod(target.record.shape) * _codes(target)


def _check_target(target, records):
    """That its move stays within both arrays, and that its steps lead from the record's dtype to the tensor's."""
    record, move, dtype = target.record, target.move, target.record.dtype
    room, place = _decoded(target), math.prod(target.shape)
    if not move:
        if room != place:
            raise Error(f"{target.name}: {room} elements of {record.key} for a tensor of {place}")
    else:
        if BITS[record.dtype] % 8 or BITS[target.dtype] % 8:
            raise Error(f"{target.name}: elements smaller than a byte cannot be moved")
        if not (_inside(move.source, [(n, a) for n, a, _ in move.dims], room)
                and _inside(move.dest, [(n, b) for n, _, b in move.dims], place)):
            raise Error(f"{target.name}: a move that leaves {record.key} or the tensor, or goes to one element twice")
    steps = target.steps
    if len(steps) > _MAX_STEPS:
        raise Error(f"{target.name}: {len(steps)} steps; at most {_MAX_STEPS} are allowed")
    for step in steps:
        if step.operand != NONE and step.operand >= len(records):
            raise Error(f"{target.name}: a step with record {step.operand} of {len(records)}")
        if step.kind not in (DECODE, WITH) and len(step.index) not in (0, len(record.shape)) or (
                step.kind != DECODE and any(block == 0 for block, _ in step.index)):
            raise Error(f"{target.name}: a step with {len(step.index)} dimensions, or blocks of 0, for {record.key}")
        if not _is_known_well(step, record, records, step is steps[0]):
            raise Error(f"{target.name}: a step of kind {step.kind} with parameter {step.param} for {record.dtype}")
        dtype = step.dtype
    if dtype != target.dtype:
        raise Error(f"{target.name}: {target.dtype}, but {record.key} becomes {dtype}")


def _codes(target):
    """How many elements come of one of the record's."""
    steps = target.steps
    return BITS[target.record.dtype] // 4 if steps and steps[0].kind == UNPACK else 1


def _is_known_well(step, record, records, first):
    """That a step of a kind that is known here is as the page has it."""
    alone = step.operand == NONE and not step.index and step.dtype in ("BF16", "F16", "F32", "F64")
    if step.kind == SCALE:
        operand = records[step.operand].dtype if step.operand != NONE else None
        return step.param == 0 or (step.param < 6 and operand in ("U8", "F8_E8M0"))
    if step.kind == UNPACK:
        whole = record.dtype[0] in "UI" and record.shape and record.shape[-1] <= (1 << 64) // 16 - 1
        return first and alone and whole and 1 <= step.param <= 3
    return step.kind != FILL or alone


def _inside(start, dims, room):
    """That (size, stride) from start on stay below room and meet no element twice."""
    if any(size == 0 for size, _ in dims):
        return True
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in dims if size > 1):
        if stride <= reach:
            return False
        reach += (size - 1) * stride
    return start + reach < room


def _is_kept(file):
    """Whether nobody writes this just now: who has met an abort in it may be long gone, and whoever was told of it too."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, AttributeError, ValueError):
        return False
    return not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode)


def _is_buffer(data):
    try:
        memoryview(data)
    except TypeError:
        return False
    return True


def _flat(record, data):
    """Data as bytes in row-major order. An array must be what the record says, and not only as long."""
    dtype, shape = getattr(data, "dtype", None), getattr(data, "shape", None)
    if dtype is not None and (dtype != NUMPY[record.dtype] or tuple(shape) != tuple(record.shape)):
        raise ValueError(f"{record.key}: an array of {dtype} {list(shape)} for {record.dtype} {list(record.shape)}, "
                         f"which is {NUMPY[record.dtype]} to numpy")
    return _bytes(data)


def _bytes(data):
    """Any buffer as a flat one of bytes, in row-major order; a copy only if it must be."""
    view = memoryview(data)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


def _failure(error):
    """Exit status, whether the user knows it, program and text of what went wrong; status 0 if nobody can be told."""
    if isinstance(error, (BrokenPipeError, KeyboardInterrupt)):
        return 0, True, "", ""
    if isinstance(error, Error):
        return error.status, error.told, error.tool, " ".join(str(error).split())
    tool = Error("").tool
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return 4, getattr(error, "told", False), tool, f"{where}{error.strerror or error}"
    if isinstance(error, SystemExit):
        status = error.code if error.code in (1, 2, 3, 4) else 1
        return status, bool(error.code), tool, "it ended in the middle of the stream"
    return 1, True, tool, " ".join(f"{type(error).__name__}: {error}".split())


def _printable(text):
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _standard(name, why):
    file = getattr(sys, name)
    if file is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), f"standard {'input' if name == 'stdin' else 'output'}")
    if file.isatty():
        raise Error(why, status=2)
    return file.buffer


def _die(number):
    """Quietly, of the signal, as a program does that does not catch it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
