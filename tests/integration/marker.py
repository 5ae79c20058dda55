"""Markers as brokers send and name them."""

import hashlib
import json

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


def name_of(marker):
    """What positions call a marker with that payload, sent by the backend that it names."""
    text = f"{marker['marker']} {marker['pid']} {marker['at']}"
    return "".join(ALPHABET[byte % len(ALPHABET)]
                   for byte in hashlib.sha256(text.encode()).digest()[:13])


def say_marker(database, **parts):
    """As a broker would: with the pid of who says it and the server's time, unless parts say
    otherwise. Returns the payload."""
    (pid, at), = database.execute(f"SELECT pg_backend_pid(), {CLOCK}")
    marker = {"pid": pid, "at": at, **parts}
    database.notify("pgsse_marker", json.dumps(marker))
    return marker
