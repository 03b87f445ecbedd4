"""Reads a `.wandb` file: a 7-byte header, then LevelDB's log format (32 KiB blocks; a record's header is checksum, length, type)."""

from __future__ import annotations

import struct
from pathlib import Path

BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path):
    """The file's protobuf records as bytes."""
    data = Path(path).read_bytes()
    assert data[:4] == b":W&B", data[:8]
    at, parts = HEADER, []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        at += HEADER
        if kind not in (FULL, FIRST, MIDDLE, LAST):
            return
        parts.append(data[at : at + length])
        at += length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
