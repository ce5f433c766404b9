"""Mutated byte streams of HTTP/1.1 and WebSocket: valid requests, changed where parsers of the framing are weak."""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.mutations import EDGE_VALUES
from tests.frames import png, speckle

MAX_STREAM_BYTES = 2**17
MAX_MUTATIONS = 5
HOST = b"Host: 127.0.0.1\r\n"
CRLF = b"\r\n"
# What stands for a number in a header or in the size of a chunk.
EDGE_NUMBERS = (b"-1", b"+1", b"0x10", b"1e3", b" 5", b"5, 5", b"", b"00000000000000000005", b"18446744073709551616")
# What stands for the end of a line.
LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\r\n\t", b"\0\r\n", b"\r\n\r\n", b"")
HEADER_LINES = (
    *(b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked"),
    *(b"Transfer-Encoding:\x0bchunked", b"Expect: 100-continue", b"Connection: close", b"Connection: Upgrade"),
    *(b"Upgrade: h2c", b"Host: b", b"Content-Encoding: gzip", b" folded: line", b": no name", b"no colon"),
    *(b"X-\xff: \x80", b"Range: bytes=0-1", b"Trailer: Host", b"TE: trailers", b"a: " + b"b" * 40_000),
)
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI", b"get", b"G\0T", b"M-SEARCH")


@dataclass(frozen=True)
class StreamSeed:
    """Valid bytes of one connection, and their kind for the report."""

    kind: str
    data: bytes


def make_stream_seeds() -> list[StreamSeed]:
    """Return streams of every kind of framing that the service reads."""
    frame = png(speckle(0, 24, 32))
    length = b"Content-Length: %d\r\n" % len(frame)
    image, chunked = b"Content-Type: image/png\r\n", b"Transfer-Encoding: chunked\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (frame[:7], frame[7:]))
    form = b'--b\r\nContent-Disposition: form-data; name="frame"; filename="a.png"\r\n\r\n' + frame + b"\r\n--b--\r\n"
    form_head = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n" % len(form)
    post = b"POST /mask HTTP/1.1\r\n" + HOST
    return [
        StreamSeed("GET", b"GET /livez HTTP/1.1\r\n" + HOST + CRLF),
        StreamSeed("GET", b"GET http://127.0.0.1/model?a=b HTTP/1.1\r\n" + HOST + b"Accept: */*\r\n" + CRLF),
        StreamSeed("GET", b"GET /livez HTTP/1.0\r\n" + CRLF),
        StreamSeed("pipelined", (b"GET /livez HTTP/1.1\r\n" + HOST + CRLF) * 3),
        StreamSeed("pipelined", post + image + length + CRLF + frame + b"GET /livez HTTP/1.1\r\n" + HOST + CRLF),
        StreamSeed("POST with length", post + image + length + CRLF + frame),
        StreamSeed("POST with length", post + image + length + b"Expect: 100-continue\r\n" + CRLF + frame),
        StreamSeed("POST in chunks", post + image + chunked + CRLF + chunks + b"0\r\n\r\n"),
        StreamSeed("POST in chunks", post + image + chunked + CRLF + chunks + b"0;a=b\r\nX-Trailer: 1\r\n\r\n"),
        StreamSeed("POST of a form", post.replace(b"/mask", b"/segment") + form_head + CRLF + form),
        StreamSeed("WebSocket", UPGRADE + websocket_frame(2, frame) + websocket_frame(8, b"\x03\xe8")),
        StreamSeed("WebSocket", UPGRADE + websocket_frame(9, b"ping") + websocket_frame(1, "text é".encode())),
        StreamSeed(
            "WebSocket",
            UPGRADE + websocket_frame(2, frame[:9], final=False) + websocket_frame(9) + websocket_frame(0, frame[9:]),
        ),
    ]


UPGRADE = (
    b"GET /stream HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)


def websocket_frame(opcode: int, payload: bytes = b"", final: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return a frame of a client (RFC 6455, 5.2), with a mask of zeros."""
    first = final << 7 | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", first, masked << 7 | size)
    elif size < 2**16:
        head = struct.pack(">BBH", first, masked << 7 | 126, size)
    else:
        head = struct.pack(">BBQ", first, masked << 7 | 127, size)
    return head + (bytes(4) if masked else b"") + payload


def mutate_stream(data: bytes, donor: bytes, rng: random.Random) -> bytes:
    """Return `data` after one to MAX_MUTATIONS random mutations. Some insert a part of `donor`."""
    mutant = bytearray(data)
    for _ in range(rng.randint(1, MAX_MUTATIONS)):
        rng.choice(MUTATIONS)(mutant, donor, rng)
    return bytes(mutant[:MAX_STREAM_BYTES])


def _offset(data: bytearray, rng: random.Random) -> int:
    return rng.randrange(len(data) + 1)


def _change_byte(data: bytearray, donor: bytes, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 9, 10, 13, 32, 58, 59, 127, 128, 255, rng.randrange(256)))


def _insert_bytes(data: bytearray, donor: bytes, rng: random.Random) -> None:
    offset = _offset(data, rng)
    data[offset:offset] = rng.randbytes(rng.choice((1, 2, 8, 70, 5000)))


def _delete_bytes(data: bytearray, donor: bytes, rng: random.Random) -> None:
    offset = _offset(data, rng)
    del data[offset : offset + rng.choice((1, 2, 8, 200))]


def _truncate(data: bytearray, donor: bytes, rng: random.Random) -> None:
    del data[_offset(data, rng) :]


def _splice(data: bytearray, donor: bytes, rng: random.Random) -> None:
    offset, start = _offset(data, rng), rng.randrange(len(donor))
    data[offset:offset] = donor[start : start + rng.choice((10, 100, 1000))]


def _repeat_part(data: bytearray, donor: bytes, rng: random.Random) -> None:
    offset = _offset(data, rng)
    data[offset:offset] = data[offset : offset + rng.choice((2, 20, 200))] * rng.choice((1, 2, 100))


def _replace_number(data: bytearray, donor: bytes, rng: random.Random) -> None:
    starts = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
    if starts:
        start = end = rng.choice(starts)
        while end < len(data) and 48 <= data[end] <= 57:
            end += 1
        data[start:end] = rng.choice((*EDGE_NUMBERS, *(b"%d" % value for value in EDGE_VALUES)))


def _replace_line_end(data: bytearray, donor: bytes, rng: random.Random) -> None:
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == CRLF]
    if starts:
        start = rng.choice(starts)
        data[start : start + 2] = rng.choice(LINE_ENDS)


def _insert_header(data: bytearray, donor: bytes, rng: random.Random) -> None:
    end = data.find(CRLF)
    if end >= 0:
        data[end:end] = CRLF + rng.choice(HEADER_LINES) * rng.choice((1, 1, 2, 150))


def _replace_method(data: bytearray, donor: bytes, rng: random.Random) -> None:
    end = max(0, data.find(b" "))
    data[:end] = rng.choice(METHODS)


def _append_frame(data: bytearray, donor: bytes, rng: random.Random) -> None:
    """Add a WebSocket frame with any head: also reserved bits and opcodes, no mask, and long control frames."""
    payload = rng.randbytes(rng.choice((0, 1, 2, 125, 126, 1000)))
    frame = websocket_frame(
        rng.randrange(16), payload, rng.random() < 0.5, rng.choice((0, 0, 4, 7)), rng.random() < 0.8
    )
    data += frame


def _append_frame_size(data: bytearray, donor: bytes, rng: random.Random) -> None:
    """Add a WebSocket frame that states another size than it has."""
    size = rng.choice(EDGE_VALUES)
    head = struct.pack(">BBQ", 0x80 | rng.choice((0, 1, 2, 8, 9)), 0xFF, size | rng.choice((0, 1 << 63)))
    data += head + bytes(4) + rng.randbytes(20)


MUTATIONS: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    *(_change_byte, _insert_bytes, _delete_bytes, _truncate, _splice, _repeat_part),
    *(_replace_number, _replace_line_end, _insert_header, _replace_method, _append_frame, _append_frame_size),
)
