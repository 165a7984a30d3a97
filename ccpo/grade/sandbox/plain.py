"""Plain data as text, written where nothing is trusted and read where everything is.

Plain are None, bool, int, float, complex, Fraction, Decimal, str, bytes, list, tuple, set,
frozenset and dict; what derives from them counts as what it derives from (a named tuple is a
tuple, a Counter a dict). The
text is JSON: null, true, false, numbers and strings are themselves, all
else is a list that begins with its tag: ["l", ...] list, ["t", ...] tuple, ["s", ...] set, ["z",
...] frozenset, ["d", key, value, ...] dict, ["b", hex] bytes, ["i", hex] an int beyond 64 bits,
["f", text] a float that is not finite, ["c", real, imaginary] complex, ["q", hex, hex] a Fraction,
["e", text] a Decimal.

The sandbox's worker runs this file's text without the package, so it imports nothing of the
package, and nothing slow when it is read.
"""

from __future__ import annotations

DEEPEST = 100  # levels of nesting
LONGEST = 8 << 20  # characters of a text
ALIKE = 64  # members of one set, or keys of one dict, that may have the same hash
SHORT = 10_000  # bits or digits of a Fraction or a Decimal: to compare more takes quadratic time
_TAGS = {list: "l", tuple: "t", set: "s", frozenset: "z", dict: "d"}
_PLAIN = (bool, int, float, complex, str, bytes, *_TAGS)


def write(value: object, longest: int = LONGEST) -> str:
    """The text of plain data; no method that the value itself defines is asked.

    Raises:
        ValueError: it holds something that is not plain, is nested deeper than DEEPEST, or its text
            is longer than `longest`.
    """
    try:
        # a tenth of the time that importing json takes
        from _json import (
            encode_basestring_ascii as quote,
        )
    except ImportError:
        from json.encoder import py_encode_basestring_ascii as quote
    parts: list[str] = []
    left = longest

    def put(value: object, depth: int) -> None:
        nonlocal left
        if depth > DEEPEST:
            raise ValueError(f"data nested deeper than {DEEPEST} levels")
        own = type(value)
        base = own if own in _PLAIN else next((t for t in own.__mro__ if t in _PLAIN), None)
        items: list[object] | None = None
        if value is None:
            text = "null"
        elif base is None and (exact := _exact(own, value)):
            text = exact
        elif base in _TAGS:
            text = f'["{_TAGS[base]}"'
            items = _members(base, value)
        elif base is None:
            raise ValueError(f"{type(value).__name__!r:.80} is not plain data")
        else:
            text = _atom(base, value, quote)
        parts.append(text)
        left -= len(text) + 2
        if left < 0:
            raise ValueError(f"data of more than {longest} characters")
        if items is not None:
            unordered = base in (set, frozenset)
            first = len(parts)
            for item in items:
                start = len(parts)
                parts.append(",")
                put(item, depth + 1)
                if unordered:
                    parts[start:] = ["".join(parts[start:])]
            if unordered:  # an order that no hash decides: hashes differ from process to process
                parts[first:] = sorted(parts[first:])
            parts.append("]")

    put(value, 0)
    return "".join(parts)


def printable(text: str) -> str:
    """Text in which what no encoding can hold, lone surrogates, is written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _members(base, value):  # type: ignore[no-untyped-def] # values of any type, taken by their base's own methods
    if base is dict:
        return [item for pair in dict.items(value) for item in pair]
    return list(base.__iter__(value))


def _exact(own, value):  # type: ignore[no-untyped-def] # likewise
    """The text of a Fraction or a Decimal; their modules are looked up, as importing takes time."""
    import sys

    fraction = getattr(sys.modules.get("fractions"), "Fraction", None)
    decimal = getattr(sys.modules.get("decimal"), "Decimal", None)
    if fraction in own.__mro__:
        return f'["q","{value.numerator:x}","{value.denominator:x}"]'
    if decimal in own.__mro__:
        return f'["e","{value!s}"]'
    return None


def _atom(base, value, quote):  # type: ignore[no-untyped-def] # likewise
    if base is bool:
        return "true" if value else "false"
    if base is str:
        return quote(str.__str__(value))
    if base is int:
        # hexadecimal is written and read in linear time, however long
        small = int.bit_length(value) < 64
        return int.__repr__(value) if small else f'["i","{int.__format__(value, "x")}"]'
    if base is float:
        text = float.__repr__(value)
        return text if text[-1] not in "nf" else f'["f","{text}"]'
    if base is bytes:
        return f'["b","{bytes.hex(value)}"]'
    value = complex.__pos__(value)
    return f'["c","{value.real!r}","{value.imag!r}"]'


def read(text: str) -> object:
    """The data of a text, whoever wrote it: time and memory stay in proportion to its length.

    Raises:
        ValueError: it is not such a text.
    """
    import json

    if len(text) > LONGEST:
        raise ValueError(f"a text of {len(text)} characters, more than {LONGEST}")
    try:
        return _build(json.loads(text, parse_constant=_refuse), 0)
    except (RecursionError, TypeError, IndexError) as error:
        raise ValueError(f"not plain data: {type(error).__name__}") from None


def _refuse(name: str) -> object:
    raise ValueError(f"not plain data: the bare word {name}")


def _build(node: object, depth: int) -> object:
    if depth > DEEPEST:
        raise ValueError(f"data nested deeper than {DEEPEST} levels")
    if not isinstance(node, list):
        if isinstance(node, dict):
            raise ValueError("not plain data: a JSON object")
        return node
    tag = node[0]
    rest = node[1:]
    if tag == "b":
        return bytes.fromhex(rest[0])
    if tag == "i":
        return int(rest[0], 16)
    if tag == "f":
        return float(rest[0])
    if tag == "c":
        return complex(float(rest[0]), float(rest[1]))
    if tag == "q":
        return _fraction(int(rest[0], 16), int(rest[1], 16))
    if tag == "e":
        return _decimal(rest[0])
    if tag not in _TAGS.values():
        raise ValueError(f"not plain data: the tag {str(tag)[:20]!r}")
    items = [_build(x, depth + 1) if isinstance(x, list | dict) else x for x in rest]
    if tag == "l":
        return items
    if tag == "t":
        return tuple(items)
    if tag == "d":
        keys = _spread(items[::2])
        return dict(zip(keys, items[1::2], strict=True))
    return set(_spread(items)) if tag == "s" else frozenset(_spread(items))


def _fraction(numerator: int, denominator: int) -> object:
    from fractions import Fraction

    if denominator == 0 or max(numerator.bit_length(), denominator.bit_length()) > SHORT:
        raise ValueError("not plain data: a fraction by zero, or of too many digits")
    return Fraction(numerator, denominator)


def _decimal(text: str) -> object:
    from decimal import Decimal, InvalidOperation

    if len(text) > SHORT:
        raise ValueError("not plain data: a decimal number of too many digits")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError("not plain data: no decimal number") from None
    if value.is_snan():  # raises when it is compared
        raise ValueError("not plain data: a signalling NaN")
    return value


def _spread(members: list[object]) -> list[object]:
    """The members themselves, unless so many share a hash that a table of them would take quadratic
    time.
    """
    hashes = sorted(hash(x) for x in members)
    if any(a == b for a, b in zip(hashes, hashes[ALIKE:], strict=False)):
        raise ValueError(f"more than {ALIKE} members of a set or keys of a dict have the same hash")
    return members
