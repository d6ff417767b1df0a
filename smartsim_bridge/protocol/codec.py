"""Message <-> frames: a JSON header, and the raw payload where the message has one.

What arrives is plain data of declared types within declared sizes, or it is refused
with PeerMisbehaved; nothing is ever unpickled or evaluated.  Unknown fields are ignored,
so that a newer peer may say more.  Pure; links decide how frames travel.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, NoReturn, cast

from ..errors import PeerMisbehaved
from .messages import KINDS, Message

__all__ = ["MAX_FRAMES", "MAX_HEADER", "MAX_PAYLOAD", "decode", "encode"]

MAX_HEADER = 2 * 1024 * 1024  # Linux's default limit for argv and environment together
MAX_PAYLOAD = 256 * 1024  # a few pipes full: bigger gains nothing, smaller costs calls
MAX_FRAMES = 2  # header, payload
MAX_DIGITS = 20  # a 64-bit number; longer ones only cost time

_KIND = "t"
_PAYLOAD = "payload"


def encode(message: Message) -> list[bytes]:
    """The frames of a message.  Raises ValueError where it breaks a limit: our own fault."""
    header = {_KIND: type(message).__name__, **message.__dict__}
    payload = header.pop(_PAYLOAD, None)
    frames = [_dumps(header).encode("ascii")]
    if payload:
        frames.append(payload)
    if len(frames[0]) > MAX_HEADER or len(payload or b"") > MAX_PAYLOAD:
        raise ValueError(f"{header[_KIND]} message of {sum(map(len, frames))} bytes is too large")
    return frames


# ASCII keeps lone surrogates (undecodable bytes of file names) intact through JSON.
_dumps = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


def decode(frames: Sequence[bytes]) -> Message:
    """The message in the frames.  Raises PeerMisbehaved for whatever is not one."""
    if not 1 <= len(frames) <= MAX_FRAMES:
        _refuse(f"a message of {len(frames)} frames")
    if len(frames[0]) > MAX_HEADER:
        _refuse(f"a header of {len(frames[0])} bytes")
    header = _header(frames[0])
    kind = header.get(_KIND)
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        _refuse(f"unknown message {str(kind)[:40]!r}")
    return shape(header, frames[1] if len(frames) > 1 else None)


def _header(raw: bytes) -> dict[str, Any]:
    try:
        # Decoded first: json.loads would guess among UTF-16 and UTF-32 as well.
        header = _DECODER.decode(bytes(raw).decode("ascii"))
    except (ValueError, RecursionError) as fault:
        _refuse(f"a header that is no JSON: {str(fault)[:80]}")
    if not isinstance(header, dict):
        _refuse("a header that is no JSON object")
    return header


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("a number too long")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_constant)


class _Shape:
    """Checks and builds one kind of message; made once per class, at import."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        declared: tuple[Field[Any], ...] = fields(kind)
        self.has_payload = any(one.name == _PAYLOAD for one in declared)
        self.checks = [
            (one.name, _CHECKS[str(one.type)], _is_required(one))
            for one in declared
            if one.name != _PAYLOAD
        ]

    def __call__(self, header: dict[str, Any], payload: bytes | None) -> Message:
        values: dict[str, Any] = {}
        for name, check, required in self.checks:
            if name in header:
                values[name] = self._checked(name, check, header[name])
            elif required:
                _refuse(f"{self.kind.__name__} without {name}")
        if payload is not None:
            values[_PAYLOAD] = self._checked_payload(payload)
        return cast(Message, self.kind(**values))

    def _checked(self, name: str, check: Callable[[Any], Any], value: Any) -> Any:
        try:
            return check(value)
        except (TypeError, ValueError):
            _refuse(f"{self.kind.__name__}.{name} is not what it should be")

    def _checked_payload(self, payload: bytes) -> bytes:
        if not self.has_payload:
            _refuse(f"{self.kind.__name__} with a payload")
        if len(payload) > MAX_PAYLOAD:
            _refuse(f"a payload of {len(payload)} bytes")
        return payload


def _is_required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _refuse(what: str) -> NoReturn:
    raise PeerMisbehaved(f"The peer sent {what}", step="decode")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_string(item) for item in value)


def _mapping(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    return {_string(name): _string(text) for name, text in value.items()}


def _or_none(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "str": _string,
    "int": _whole,
    "float": _number,
    "bool": _flag,
    "tuple[str, ...]": _strings,
    "dict[str, str]": _mapping,
    "str | None": _or_none(_string),
    "bool | None": _or_none(_flag),
    "int | None": _or_none(_whole),
    "float | None": _or_none(_number),
}

_SHAPES = {name: _Shape(kind) for name, kind in KINDS.items()}
