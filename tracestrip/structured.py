"""Dataclasses out of a JSON document, each value of the type that its field says: for files that anybody may have edited.

Libraries that do this hold texts as UTF-8; here a text may be a name of any bytes, with lone surrogates (PEP 383).
"""

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

_Kind = TypeVar("_Kind")


def structured(kind: type[_Kind], value: Any) -> _Kind:
    """*value* as *kind*: a dataclass, a tuple of one type (tuple[X, ...]), str, int, float or bool, or None beside one of them.

    Raises TypeError when it does not fit, and for a field too few or too many.
    """
    return cast("_Kind", _structured(kind, value))


def _structured(kind: Any, value: Any) -> Any:
    if isinstance(kind, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        return None if value is None else _structured(kind, value)
    if get_origin(kind) is tuple:
        return tuple(_structured(get_args(kind)[0], one) for one in _of(list, value))
    if is_dataclass(kind):
        types = get_type_hints(kind)
        given = _of(dict, value)
        if given.keys() != {field.name for field in fields(kind)}:
            raise TypeError(f"not the fields of {kind}")
        return kind(**{name: _structured(types[name], one) for name, one in given.items()})  # type: ignore[operator]
    return float(value) if kind is float and type(value) is int else _of(kind, value)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind}")
    return value
