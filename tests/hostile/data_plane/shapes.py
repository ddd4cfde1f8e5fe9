"""JSON values of many MiB in the shapes that cost most to read."""

from collections.abc import Callable
from typing import Final

# Each fills about so many bytes with one JSON value.
Shape = Callable[[int], bytes]
SHAPES: Final[dict[str, Shape]] = {
    "numbers": lambda size: b"[" + b"1," * (size // 2) + b"1]",
    "text": lambda size: b'"' + b"a" * size + b'"',
    "texts": lambda size: b"[" + b'"",' * (size // 3) + b'""]',
    "escapes": lambda size: b'"' + b"\\n" * (size // 2) + b'"',
    "backslashes": lambda size: b'"' + b"\\\\" * (size // 2) + b'"',
    "marks": lambda size: b'"' + "ä".encode() * (size // 2) + b'"',
    "lists": lambda size: b"[" + b"[]," * (size // 3) + b"1]",
    "objects": lambda size: b"[" + b'{"a":1},' * (size // 8) + b"1]",
    "deep": lambda size: b"[" + (b"[" * 200 + b"]" * 200 + b",") * (size // 401) + b"1]",
    "deep objects": lambda size: b"[" + (b'{"":' * 200 + b"1" + b"}" * 200 + b",") * (size // 1002) + b"1]",
    "messages": lambda size: b"[" + b'{"role":"user","content":"a"},' * (size // 30) + b'{"content":"b"}]',
    "many names": lambda size: b"{" + b",".join(b'"%x":1' % one for one in range(size // 10)) + b"}",
    "blank": lambda size: b"[" + b" " * size + b"1]",
    "long numbers": lambda size: b"[" + (b"1" * 16_000 + b",") * (size // 16_001) + b"1]",
}
