"""A second implementation of packets/SPEC.md, in plain Python: it makes the test vectors that stand beside it.

    python3 test/vectors/reference.py

It shares no code with the first one, so where the two agree it is because the text is clear. The vectors are fixed: a
run that changes a file here means that the format changed.
"""

import hashlib
import hmac
import json
import pathlib
import struct
import zlib

OPS = {name: op for op, name in enumerate("NOP DATA FILL COPY CALL LOAD EXEC RETURN FAULT HALT".split())}
INLINE, STREAM, WHOLE, DIGEST, OPEN = 1, 2, 4, 1, 2
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


def main():
    folder = pathlib.Path(__file__).parent
    for name, vectors in [
        ("packets", packet_vectors()),
        ("envelopes", envelope_vectors()),
        ("chunker", chunker_vectors()),
        ("streams", stream_vectors()),
    ]:
        (folder / f"{name}.json").write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")


main()
