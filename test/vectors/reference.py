"""A second implementation of packets/SPEC.md, in plain Python: it makes the test vectors that stand beside it.

    python3 test/vectors/reference.py

It shares no code with the first one, so where the two agree it is because the text is clear. The vectors are fixed: a
run that changes a file here means that the format changed.
"""

import decimal
import functools
import hashlib
import hmac
import json
import operator
import pathlib
import struct
import zlib

OPS = {name: op for op, name in enumerate("NOP DATA FILL COPY CALL LOAD EXEC RETURN FAULT HALT".split())}
INLINE, STREAM, WHOLE, DIGEST, OPEN, TREE = 1, 2, 4, 1, 2, 4
LARGEST = 2**53 - 1


def sha256(data):
    return hashlib.sha256(data).digest()


def seeded(seed, length):
    return b"".join(sha256(f"{seed}:{i}".encode()) for i in range(-(-length // 32)))[:length]


def packet(op, flags=0, lane=0, at=0, length=0, from_=0, ref=b""):
    body = struct.pack("<BBHIQQQ32s", op, flags, lane, 0, at, length, from_, ref)
    return body[:4] + struct.pack("<I", zlib.crc32(body)) + body[8:]


def halt(count, length):
    return packet(OPS["HALT"], at=count, length=length)


# ── section 6 ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def joined(pieces):
    """Pieces as (op, flags, from, ref, length), those that continue each other made one."""
    out = []
    literal = b""

    def settle():
        nonlocal literal
        for start in range(0, len(literal), 32):
            part = literal[start : start + 32]
            out.append(("DATA", 0, 0, part, len(part)))
        literal = b""

    for kind, *values in pieces:
        if kind == "data":
            literal += values[0]
            continue
        length = values[-1]
        if length == 0:
            continue
        settle()
        last = out[-1] if out else ("", 0, 0, b"", 0)
        if kind == "fill":
            pattern = values[0]
            sizes = [n for n in range(1, len(pattern) + 1) if len(pattern) % n == 0]
            size = next(n for n in sizes if pattern == pattern[:n] * (len(pattern) // n))
            new = ("FILL", size, 0, pattern[:size], length)
            joins = last[0] == "FILL" and last[3] == new[3] and last[4] % size == 0
        else:
            ref, from_, _ = values
            new = (kind.upper(), 0, from_, ref, length)
            joins = last[0] == new[0] and last[3] == ref and last[2] + last[4] == from_
        if joins:
            new = (*last[:4], last[4] + length)
            out.pop()
        out.append(new)
    settle()
    return out


def cut(items):
    """Packets without their places → lists of them, one per sub-stream."""
    groups = [[]]
    closing = False
    for op, flags, from_, ref, length in items:
        if closing:
            groups.append([])
        groups[-1].append((op, flags, from_, ref, length))
        bare = struct.pack("<BBHIQQQ32s", OPS[op], flags, 0, 0, 0, length, from_, ref)
        count = len(groups[-1])
        closing = count == 4096 or (count >= 256 and zlib.crc32(bare) < 5592405)
    return groups


def canonical(pieces):
    """Pieces → root, total length, packets and streams."""
    items = joined(pieces)
    packets = streams = 0
    while True:
        calls = []
        for group in cut(items):
            at = 0
            stream = b""
            for op, flags, from_, ref, length in group:
                stream += packet(OPS[op], flags, 0, at, length, from_, ref)
                at += length
            stream += halt(len(group), at)
            packets += len(group) + 1
            streams += 1
            calls.append(("CALL", 0, 0, sha256(stream), at))
        if len(calls) == 1:
            return {"root": calls[0][3].hex(), "length": calls[0][4], "packets": packets, "streams": streams}
        items = calls


# ── section 7 ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def gear(salt):
    digest = (lambda m: hmac.digest(salt, m, "sha256")) if salt else sha256
    return struct.unpack("<256I", b"".join(digest(b"PacketFS gear" + bytes([n])) for n in range(32)))


def chunk_ends(data, low, average, high, salt=None):
    table, bits, ends, start = gear(salt), average.bit_length() - 1, [], 0
    while start < len(data):
        end, value = min(start + high, len(data)), 0
        for at in range(start + low, end):
            value = (2 * value + table[data[at]]) % 2**32
            if value >> (32 - (bits + 2 if at < start + average else bits - 2)) == 0:
                end = at + 1
                break
        ends.append(end)
        start = end
    return ends


# ── the files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def packet_vectors():
    ref, text = sha256(b"PacketFS"), b"the quick brown fox jumps over 1"
    rows = [
        ("NOP", {}),
        ("DATA", {"length": 5, "ref": b"hello"}),
        ("DATA", {"at": 77, "length": 32, "ref": text}),
        ("FILL", {"flags": 1, "length": LARGEST}),
        ("FILL", {"flags": 32, "at": 4096, "length": 1, "ref": text}),
        ("COPY", {"at": 2**32, "from": 2**20 - 1, "length": 1, "ref": ref}),
        ("CALL", {"at": 2**52, "from": 2**52, "length": 2**52 - 1, "ref": ref}),
        ("LOAD", {"lane": 65535, "ref": ref}),
        ("LOAD", {"lane": 1, "flags": INLINE, "ref": text}),
        ("EXEC", {"lane": 258, "at": 3, "from": 65536, "length": 65536, "ref": ref}),
        ("EXEC", {"lane": 1, "flags": STREAM | WHOLE, "at": LARGEST, "from": 2**40, "length": 2**30, "ref": ref}),
        ("RETURN", {"lane": 1, "flags": INLINE, "at": 9}),
        ("RETURN", {"lane": 1, "flags": INLINE, "at": 9, "length": 2, "ref": b"42"}),
        ("RETURN", {"lane": 1, "at": 9, "length": 2**20, "ref": ref}),
        ("RETURN", {"lane": 1, "flags": STREAM, "at": 9, "length": 2**33, "ref": ref}),
        ("FAULT", {"lane": 1, "flags": INLINE, "at": 9, "from": 1, "length": 4, "ref": b"oops"}),
        ("FAULT", {"lane": 1, "at": 9, "from": 10, "length": 400, "ref": ref}),
        ("HALT", {}),
        ("HALT", {"flags": DIGEST, "at": 16383, "length": LARGEST, "ref": ref}),
        ("HALT", {"flags": OPEN, "at": 2}),
        ("HALT", {"flags": TREE, "at": 3, "length": LARGEST}),
        ("HALT", {"flags": TREE | DIGEST, "at": 3, "length": 5, "ref": ref}),
    ]
    valid = []
    for op, given in rows:
        fields = {"flags": 0, "lane": 0, "at": 0, "length": 0, "from": 0, "ref": b"", **given}
        data = packet(OPS[op], *(fields[name] for name in ("flags", "lane", "at", "length", "from", "ref")))
        valid.append({"op": op, **fields, "ref": fields["ref"].hex(), "packet": data.hex()})

    right = packet(OPS["DATA"], length=5, ref=b"hello")
    make = lambda op, **fields: packet(OPS[op], **fields)
    unused = "unused field is not zero"
    invalid = [
        ("shorter than 64 bytes", right[:63]),
        ("unknown op", packet(10)),
        ("check does not match", right[:4] + bytes(4) + right[8:]),
        ("undefined flag", make("COPY", flags=1, length=1, ref=ref)),
        ("integer above 2^53 - 1", make("CALL", at=2**53, length=1, ref=ref)),
        ("integer above 2^53 - 1", make("CALL", length=2**64 - 1, ref=ref)),
        ("integer above 2^53 - 1", make("CALL", from_=2**53 + 1, length=1, ref=ref)),
        ("end above 2^53 - 1", make("CALL", at=LARGEST, length=1, ref=ref)),
        ("end above 2^53 - 1", make("EXEC", lane=1, flags=STREAM, from_=LARGEST, length=1, ref=ref)),
        ("no lane", make("EXEC", length=1, ref=ref)),
        ("lane on a packet that uses none", make("COPY", lane=1, length=1, ref=ref)),
        ("DATA yields 1 to 32 bytes", make("DATA")),
        ("DATA yields 1 to 32 bytes", make("DATA", length=33, ref=text)),
        ("FILL's pattern has 1 to 32 bytes", make("FILL", length=1)),
        ("FILL's pattern has 1 to 32 bytes", make("FILL", flags=33, length=1)),
        ("yields no bytes", make("FILL", flags=1)),
        ("yields no bytes", make("COPY", ref=ref)),
        ("yields no bytes", make("CALL", ref=ref)),
        ("reads beyond the largest chunk", make("COPY", from_=1, length=2**20, ref=ref)),
        ("reads beyond the largest chunk", make("EXEC", lane=1, from_=2**20, length=1, ref=ref)),
        ("an empty result is inline", make("RETURN", lane=1, ref=ref)),
        ("longer than the largest chunk", make("RETURN", lane=1, length=2**20 + 1, ref=ref)),
        ("longer than the largest chunk", make("FAULT", lane=1, from_=1, length=2**20 + 1, ref=ref)),
        ("INLINE and STREAM exclude each other", make("RETURN", lane=1, flags=3, length=1, ref=b"x")),
        ("inline bytes above 32", make("RETURN", lane=1, flags=INLINE, length=33, ref=text)),
        ("inline bytes above 32", make("FAULT", lane=1, flags=INLINE, length=33, ref=text)),
        ("an open HALT knows neither length nor digest", make("HALT", flags=OPEN, length=1)),
        ("an open HALT knows neither length nor digest", make("HALT", flags=OPEN | DIGEST, ref=ref)),
        ("an open HALT says nothing of a tree", make("HALT", flags=OPEN | TREE)),
        (unused, make("NOP", at=1)),
        (unused, make("DATA", length=5, ref=b"hello!")),
        (unused, make("FILL", flags=2, length=5, ref=b"abc")),
        (unused, make("LOAD", lane=1, length=1, ref=ref)),
        (unused, make("RETURN", lane=1, flags=INLINE, from_=1)),
        (unused, make("FAULT", lane=1, flags=INLINE, from_=1, length=1, ref=b"xy")),
        (unused, make("HALT", ref=ref)),
    ]
    return {"valid": valid, "invalid": [{"reason": reason, "packet": data.hex()} for reason, data in invalid]}


ENVELOPE = "type flags priority deadlineMs request creditBytes metaBytes packetBytes chunkBytes counter".split()


def envelope(fields, trace):
    type_, flags, priority, deadline, request, credit, meta, packets, chunks, counter = fields
    head = (type_, flags, priority, deadline, request, credit, meta, packets, chunks, counter)
    body = struct.pack("<4sIBBBBIQIIIIQ16s", b"PFS1", 0, 1, *head, trace)
    return body[:4] + struct.pack("<I", zlib.crc32(body)) + body[8:]


def envelope_vectors():
    trace = bytes(range(16))
    rows = [
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], bytes(16)),
        ([11, 2, 1, 30_000, 1, 2**20, 5, 64 * 4096, 0, 1], trace),
        ([5, 1, 2, 2**32 - 1, LARGEST, 2**32 - 1, 65536, 64, 8 * 2**20, LARGEST], trace),
        ([26, 3, 0, 1, 2**32, 0, 1, 0, 1, 2**32], trace[::-1]),
    ]
    named = lambda fields, trace: {**dict(zip(ENVELOPE, fields)), "trace": trace.hex()}
    return [{**named(*row), "envelope": envelope(*row).hex()} for row in rows]


def chunker_vectors():
    rows = []
    for seed, size, low, average, high, salt in [
        ("small chunks", 20_000, 64, 256, 1024, None),
        ("small chunks", 20_000, 64, 256, 1024, sha256(b"salt")),
        ("equal sizes", 3_000, 128, 128, 128, None),
        ("defaults", 1_500_000, 16_384, 65_536, 262_144, None),
    ]:
        given = {"minBytes": low, "averageBytes": average, "maxBytes": high}
        ends = chunk_ends(seeded(seed, size), low, average, high, salt)
        rows.append({"seed": seed, "bytes": size, **given, "salt": salt.hex() if salt else None, "ends": ends})
    return rows


def stream_vectors():
    ref, other = sha256(b"chunk"), sha256(b"stream")
    short = [
        ("the empty file", []),
        ("pieces of no bytes", [("data", b""), ("fill", b"x", 0), ("copy", ref, 9, 0)]),
        ("a literal in parts", [("data", b"x" * 20), ("data", b"y" * 20)]),
        ("fills that join", [("fill", b"abab", 4), ("fill", b"ab", 3), ("fill", b"ab", 1)]),
        ("copies that join", [("copy", ref, 5, 10), ("copy", ref, 15, 20), ("copy", ref, 36, 1)]),
        ("a bit of everything", [("data", b"head"), ("call", other, 7, 2**40), ("fill", b"\0", 9), ("copy", ref, 0, 5)]),
    ]
    rows = []
    for name, pieces in short:
        spelled = [[part.hex() if isinstance(part, bytes) else part for part in piece] for piece in pieces]
        rows.append({"name": name, "pieces": spelled, **canonical(pieces)})
    for seed, count in [("a few", 300), ("many", 20_000), ("a tree of three levels", 450_000)]:
        refs = seeded(seed, 32 * count)
        pieces = [("copy", refs[32 * i : 32 * i + 32], 0, 65536 - i % 7) for i in range(count)]
        rows.append({"name": f"{count} chunks", "seed": seed, "chunks": count, **canonical(pieces)})
    return rows


# ── section 12 ────────────────────────────────────────────────────────────────────────────────────────────────────────

TYPES = "- u8 i8 u16 i16 u32 i32 u64 i64 f32 f64".split()
FORMATS = dict(zip(TYPES, "-BbHhIiQqfd"))
RECORDS = {"ROWS": 1, "LINES": 2}
FILTERS = {name: number for number, name in enumerate("ALL IN AT CONTAINS BEGINS ENDS".split())}
AGGREGATES = {name: 1 + number for number, name in enumerate("COUNT SUM MIN MAX MEAN XOR HISTOGRAM CRC32".split())}
STAGES = {"MAP": 0, "MERGE": 1, "FINISH": 2}
LINE_MAX = 2**20


class Fault(Exception):
    pass


def code_bytes(stage="MAP", records="ROWS", filter="ALL", negate=False, aggregate="COUNT", type="-", filter_type="-",
               size=1, column=0, filter_column=0, separator=b"", ranges=(), needle=b""):
    operand = b"".join(struct.pack("<" + FORMATS[filter_type], end) for pair in ranges for end in pair) or needle
    places = separator.ljust(4, b"\0") if records == "LINES" else struct.pack("<HH", column, filter_column)
    return struct.pack(
        "<BBBBBBH4s20s", 1, RECORDS[records] | STAGES[stage] << 4, FILTERS[filter] | (128 if negate else 0),
        AGGREGATES[aggregate], TYPES.index(type) | TYPES.index(filter_type) << 4, len(ranges) or len(needle),
        len(separator) or size, places, operand)


def value_at(data, at, type):
    return struct.unpack_from("<" + FORMATS[type], data, at)[0]


def records_of(fields, data, start, end):
    """(begin, end) of the records that begin in start..end."""
    if fields.get("records", "ROWS") == "ROWS":
        size = fields.get("size", 1)
        for begin in range(-(-start // size) * size, end, size):
            if begin + size > len(data):
                raise Fault(begin)
            yield begin, begin + size
        return
    begin = 0
    while begin < len(data):
        behind = data.find(fields["separator"], begin)
        behind = len(data) if behind < 0 else behind
        if start <= begin < end:
            if behind - begin > LINE_MAX:
                raise Fault(begin)
            yield begin, behind
        begin = behind + len(fields["separator"])


def passes(fields, data, begin, end):
    kind, needle = fields.get("filter", "ALL"), fields.get("needle", b"")
    line = data[begin:end]
    if kind == "IN":
        is_line = fields.get("records") == "LINES"
        value = end - begin if is_line else value_at(data, begin + fields.get("filter_column", 0), fields["filter_type"])
        found = any(low <= value <= high for low, high in fields["ranges"])
    elif kind == "AT":
        at = begin + fields.get("filter_column", 0)
        found = data[at : at + len(needle)] == needle
    else:
        found = {"ALL": True, "CONTAINS": needle in line, "BEGINS": line.startswith(needle),
                 "ENDS": line.endswith(needle)}[kind]
    return found != fields.get("negate", False)


def is_nan(value):
    return value != value


def extreme(values, pick):
    nan = [value for value in values if is_nan(value)]
    if nan:
        return nan[0]
    best = pick(values)
    if best == 0 and isinstance(best, float):
        signs = [struct.pack(">d", value)[0] >> 7 for value in values if value == 0]
        negative = any(signs) if pick is min else all(signs)
        return -0.0 if negative else 0.0
    return best


def float_bytes(value):
    return bytes.fromhex("000000000000f87f") if is_nan(value) else struct.pack("<d", value)


def wide(integer, size=8):
    return (integer % 2 ** (8 * size)).to_bytes(size, "little")


def added(values, start):
    for value in values:
        start += value
    return start


class Tally:
    """A state: what it is made of, and its bytes."""

    def __init__(self, fields, values, data=b""):
        self.fields, self.count = fields, len(values)
        kind = fields.get("aggregate", "COUNT")
        self.is_float = fields.get("type", "-") in ("f32", "f64")
        self.value = {
            "SUM": lambda: added(values, 0.0 if self.is_float else 0),
            "MEAN": lambda: added(values, 0.0 if self.is_float else 0),
            "MIN": lambda: extreme(values, min) if values else 0,
            "MAX": lambda: extreme(values, max) if values else 0,
            "XOR": lambda: functools.reduce(operator.xor, values, 0),
            "HISTOGRAM": lambda: [values.count(value) for value in range(256)],
            "CRC32": lambda: bytes(values),
            "COUNT": lambda: 0,
        }[kind]()

    def merge(self, other):
        kind = self.fields.get("aggregate", "COUNT")
        if kind in ("SUM", "MEAN", "CRC32"):
            self.value = self.value + other.value
        elif kind in ("MIN", "MAX"):
            known = [state.value for state in (self, other) if state.count]
            self.value = extreme(known, min if kind == "MIN" else max) if known else 0
        elif kind == "XOR":
            self.value ^= other.value
        elif kind == "HISTOGRAM":
            self.value = [a + b for a, b in zip(self.value, other.value)]
        self.count += other.count

    def bytes(self):
        kind, count = self.fields.get("aggregate", "COUNT"), wide(self.count)
        number = lambda size: float_bytes(self.value) if self.is_float else wide(self.value, size)
        if kind == "COUNT":
            return count
        if kind in ("SUM", "MEAN"):
            return number(16) + (count if kind == "MEAN" else b"")
        if kind in ("MIN", "MAX"):
            return number(8) + count
        if kind == "XOR":
            return wide(self.value)
        if kind == "HISTOGRAM":
            return b"".join(wide(each) for each in self.value)
        return wide(zlib.crc32(self.value)) + count

    def text(self):
        kind = self.fields.get("aggregate", "COUNT")
        if kind in ("MIN", "MAX", "MEAN") and self.count == 0:
            return "null"
        if kind == "HISTOGRAM":
            return json.dumps(self.value, separators=(",", ":"))
        if kind == "MEAN":
            return number_text(float(self.value) / self.count)
        if kind == "CRC32":
            return str(zlib.crc32(self.value))
        return number_text(self.count if kind == "COUNT" else self.value)


def number_text(value):
    if isinstance(value, int):
        big = {"$": "bigint", "v": ("-" if value < 0 else "") + format(abs(value), "x")}
        return str(value) if abs(value) <= LARGEST else json.dumps(big, separators=(",", ":"))
    if is_nan(value) or value in (float("inf"), float("-inf")) or (value == 0 and struct.pack(">d", value)[0]):
        names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "-0.0": "-0"}
        return json.dumps({"$": "number", "v": names[repr(value)]}, separators=(",", ":"))
    if value == int(value) and abs(value) < 1e21:
        # The fewest digits that tell the number, and zeros.
        return str(int(decimal.Decimal(repr(value))))
    digits = repr(value)
    mantissa, _, exponent = digits.partition("e")
    if not exponent:
        return digits
    if int(exponent) in (-5, -6):
        # ECMAScript writes these without an exponent.
        sign, mantissa = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
        return sign + "0." + "0" * (-int(exponent) - 1) + mantissa.replace(".", "")
    return (mantissa[:-2] if mantissa.endswith(".0") else mantissa) + "e" + ("+" if int(exponent) > 0 else "") + str(int(exponent))


def mapped(fields, data, start, end):
    values = []
    for begin, behind in records_of(fields, data, start, end):
        if not passes(fields, data, begin, behind):
            continue
        type_ = fields.get("type", "-")
        if type_ == "-":
            values.append(0)
        elif fields.get("records") == "LINES":
            values.append(behind - begin)
        else:
            values.append(value_at(data, begin + fields.get("column", 0), type_))
    return Tally(fields, values)


def code_vector(name, text, data, cuts, **fields):
    """`cuts` are where the ranges of the file meet."""
    row = {"name": name, "text": text, "code": code_bytes(**fields).hex(), "file": data.hex(), "ranges": []}
    merged = Tally(fields, [])
    states = []
    for start, end in zip([0, *cuts], [*cuts, len(data)]):
        state = mapped(fields, data, start, end)
        row["ranges"].append({"from": start, "length": end - start, "state": state.bytes().hex()})
        states.append(state)
    for index, state in enumerate(states):
        if index == 0:
            merged = state
        else:
            merged.merge(state)
    return {**row, "merged": merged.bytes().hex(), "value": merged.text()}


def fault_vector(name, data, start, length, **fields):
    """A range with a record that is none, and where that begins."""
    try:
        mapped(fields, data, start, start + length)
    except Fault as fault:
        return {"name": name, "code": code_bytes(**fields).hex(), "file": data.hex(), "from": start, "length": length,
                "at": fault.args[0]}
    raise AssertionError(name)


def code_vectors():
    text = "one\ntwo \u2013 zwei\r\n\nfour ERROR\nERRORERROR\nlast".encode()
    every = list(range(1, len(text)))
    floats = struct.pack("<8d", 0.1, 0.2, -0.0, 1e300, 5e-324, -3.5, 1e16, 1.0)
    odd = struct.pack("<4d", 1.0, float("nan"), float("inf"), -2.0)
    rows = b"".join(struct.pack("<IhB", 10 * i, -i, 65 + i % 3) for i in range(9))
    large = struct.pack("<4Q", 2**64 - 1, 2**64 - 2, 1, 2**63)
    signed = struct.pack("<4q", -(2**63), -1, 5, -(2**63))
    dash = "\u2013"
    line = {"records": "LINES", "separator": b"\n"}
    valid = [
        code_vector("line feeds", 'bytes().filter(anyOf("\\n")).count()', text, [5, 6, 30],
                    filter="IN", filter_type="u8", ranges=[(10, 10)]),
        code_vector("vowels", 'bytes().filter(anyOf("AEIOUaeiou")).count()', text, every, filter="IN",
                    filter_type="u8", ranges=[(ord(c), ord(c)) for c in "AEIOUaeiou"]),
        code_vector("no letters", 'bytes().filter(not(anyOf(range("A", "Z"), range("a", "z")))).count()', text, [],
                    filter="IN", filter_type="u8", negate=True, ranges=[(65, 90), (97, 122)]),
        code_vector("all bytes", "bytes().count()", text, [7]),
        code_vector("a text", 'bytes().filter(at(0, "ERROR")).count()', text, every, filter="AT", needle=b"ERROR"),
        code_vector("overlapping", 'bytes().filter(at(0, "aa")).count()', b"aaaaa", [1, 3], filter="AT", needle=b"aa"),
        code_vector("lines", "lines().count()", text, every, **line),
        code_vector("lines of another separator", f'lines("{dash}").count()', text, every, records="LINES", separator=dash.encode()),
        code_vector("lines that contain", 'lines().filter(contains("ERROR")).count()', text, every, **line,
                    filter="CONTAINS", needle=b"ERROR"),
        code_vector("lines that do not begin", 'lines().filter(not(begins("ERR"))).count()', text, every, **line,
                    filter="BEGINS", negate=True, needle=b"ERR"),
        code_vector("lines that end", 'lines("\\r\\n").filter(ends("zwei")).sum()', text, every, records="LINES", separator=b"\r\n",
                    filter="ENDS", needle=b"zwei", aggregate="SUM", type="u32"),
        code_vector("the longest line", "lines().max()", text, [9, 17], **line, aggregate="MAX", type="u32"),
        code_vector("short lines", 'lines().filter("length", "<=", 4).mean()', text, [3], **line, filter="IN",
                    filter_type="u32", ranges=[(0, 4)], aggregate="MEAN", type="u32"),
        code_vector("no lines", "lines().min()", b"", [], **line, aggregate="MIN", type="u32"),
        code_vector("a sum of floats", 'rows(8).sum("f64@0")', floats, [1, 24, 40], size=8, aggregate="SUM", type="f64"),
        code_vector("its mean", 'rows(8).mean("f64@0")', floats, [], size=8, aggregate="MEAN", type="f64"),
        code_vector("the smallest float", 'rows(8).min("f64@0")', floats, [16], size=8, aggregate="MIN", type="f64"),
        code_vector("what is no number", 'rows(8).max("f64@0")', odd, [8, 16], size=8, aggregate="MAX", type="f64"),
        code_vector("floats above", 'rows(8).filter("f64@0", ">=", 0.15).min("f64@0")', floats, [8], size=8, filter="IN",
                    filter_type="f64", ranges=[(0.15, float("inf"))], aggregate="MIN", type="f64"),
        code_vector("floats of four bytes", 'rows(4).sum("f32@0")', struct.pack("<3f", 0.1, 1e30, -0.1), [4], size=4,
                    aggregate="SUM", type="f32"),
        code_vector("a column of rows", 'rows(7).filter("u32@0", ">=", 30).sum("i16@4")', rows, [1, 7, 20, 21, 50], size=7,
                    filter="IN", filter_type="u32", ranges=[(30, 2**32 - 1)], aggregate="SUM", type="i16", column=4),
        code_vector("rows of a letter", 'rows(7).filter(at(6, "B")).max("u32@0")', rows, [6], size=7, filter="AT",
                    filter_column=6, needle=b"B", aggregate="MAX", type="u32"),
        code_vector("a sum beyond 64 bits", 'rows(8).sum("u64@0")', large, [8], size=8, aggregate="SUM", type="u64"),
        code_vector("below zero", 'rows(8).sum("i64@0")', signed, [16], size=8, aggregate="SUM", type="i64"),
        code_vector("the smallest integer", 'rows(8).min("i64@0")', signed, [8], size=8, aggregate="MIN", type="i64"),
        code_vector("a mean of large ones", 'rows(8).mean("u64@0")', large, [8], size=8, aggregate="MEAN", type="u64"),
        code_vector("an XOR with its sign", 'rows(8).xor("i64@0")', signed, [8], size=8, aggregate="XOR", type="i64"),
        code_vector("an XOR of bytes", "bytes().xor()", text, [3], aggregate="XOR", type="u8"),
        code_vector("a histogram", "bytes().histogram()", text, [4], aggregate="HISTOGRAM", type="u8"),
        code_vector("a CRC-32", "bytes().crc32()", text, [1, 2, 30], aggregate="CRC32", type="u8"),
    ]
    good = code_bytes()
    changed = lambda at, byte: good[:at] + bytes([byte]) + good[at + 1 :]
    invalid = [
        ("not 32 bytes", good[:31]),
        ("unknown version", changed(0, 2)),
        ("unknown records", changed(1, 3)),
        ("unknown stage", changed(1, 0x31)),
        ("unknown filter", changed(2, 6)),
        ("unknown aggregate", changed(3, 9)),
        ("unknown type", changed(4, 11)),
        ("nothing to negate", changed(2, 128)),
        ("a row has 1 to 65535 bytes", code_bytes(size=0)),
        ("this filter is of lines", code_bytes(filter="CONTAINS", needle=b"x")),
        ("a column stands beyond its row", code_bytes(size=4, aggregate="SUM", type="u32", column=1)),
        ("a column stands beyond its row", code_bytes(filter="AT", filter_column=1, needle=b"x")),
        ("unused field is not zero", code_bytes(size=4, filter_column=1)),
        ("CRC32 takes every byte", code_bytes(size=2, aggregate="CRC32", type="u8")),
        ("the separator has 1 to 4 bytes", changed(1, 2)[:6] + b"\5" + good[7:]),
        ("unused field is not zero", code_bytes(**line)[:9] + b"x" + bytes(22)),
        ("the separator overlaps itself", code_bytes(records="LINES", separator=b"\n\n")),
        ("this filter is of rows", code_bytes(**line, filter="AT", needle=b"x")),
        ("a line's length is a u32", code_bytes(**line, aggregate="SUM", type="u8")),
        ("CRC32 takes every byte", code_bytes(**line, aggregate="CRC32", type="u32")),
        ("IN alone looks at a column", code_bytes(filter_type="u8")),
        ("COUNT alone takes no column", code_bytes(type="u8")),
        ("HISTOGRAM and CRC32 take a u8", code_bytes(aggregate="HISTOGRAM", type="i8")),
        ("XOR takes integers", code_bytes(size=8, aggregate="XOR", type="f64")),
        ("the operand does not fit", code_bytes(filter="AT")),
        ("unused field is not zero", code_bytes(filter="AT", needle=b"x")[:-1] + b"x"),
        ("a range ends before it begins", code_bytes(filter="IN", filter_type="u8", ranges=[(2, 1)])),
        ("zero is +0", code_bytes(size=8, filter="IN", filter_type="f64", ranges=[(-0.0, 1.0)])),
        ("ranges are ascending and apart", code_bytes(filter="IN", filter_type="u8", ranges=[(1, 2), (3, 4)])),
        # The first range that is wrong says how.
        ("zero is +0", code_bytes(size=4, filter="IN", filter_type="f32", ranges=[(-0.0, 1.0), (3.0, 2.0)])),
        ("a range ends before it begins",
         code_bytes(size=4, filter="IN", filter_type="f32", ranges=[(1.0, float("nan")), (-0.0, 1.0)])),
    ]
    return {
        "valid": valid,
        "invalid": [{"reason": reason, "code": data.hex()} for reason, data in invalid],
        "faults": [
            fault_vector("a row that is cut off, alone", rows[:-1], 56, 6, size=7),
            fault_vector("behind rows that are whole", rows[:-1], 0, 62, size=7, aggregate="SUM", type="u8"),
        ],
        "invalidStates": [
            {"code": code_bytes(**fields).hex(), "states": states.hex()}
            for fields, states in [
                ({}, wide(1)[:7]),
                ({}, wide(1) + wide(2**53)),
                ({"aggregate": "MEAN", "type": "u8"}, wide(-1, 16) + wide(2**64 - 1)),
                ({"aggregate": "MIN", "type": "u8"}, wide(1) + wide(0)),
                ({"aggregate": "MAX", "type": "f64", "size": 8}, struct.pack("<d", -0.0) + wide(0)),
                ({"aggregate": "CRC32", "type": "u8"}, wide(2**32) + wide(1)),
            ]
        ],
    }


def main():
    folder = pathlib.Path(__file__).parent
    for name, vectors in [
        ("packets", packet_vectors()),
        ("envelopes", envelope_vectors()),
        ("chunker", chunker_vectors()),
        ("streams", stream_vectors()),
        ("code", code_vectors()),
    ]:
        (folder / f"{name}.json").write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")


main()
