"""Values out of a JSON document, each of the type that its field says: for files that anybody may have edited.

Libraries that do this hold texts as UTF-8; here a text may be a name of any bytes, with lone surrogates (PEP 383).
"""

from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints, is_typeddict

from tracestrip.observer.wire import raw

_Kind = TypeVar("_Kind")


def structured(kind: type[_Kind], value: Any) -> _Kind:
    """*value* as *kind*: a dataclass, a TypedDict, a tuple or list of one type, str, int, float, bool; None beside one of them.

    A dataclass has all of its fields and no others; of a TypedDict those that it does not know are left out. Raises TypeError
    when it does not fit, ValueError for a surrogate that stands for no byte, OverflowError for a number that is no float.
    """
    return cast("_Kind", _structured(kind, value))


def _structured(kind: Any, value: Any) -> Any:
    if isinstance(kind, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        return None if value is None else _structured(kind, value)
    origin = get_origin(kind)
    if origin in (tuple, list):
        return origin(_structured(get_args(kind)[0], one) for one in _of(list, value))
    if is_typeddict(kind):
        given = _of(dict, value)
        if not kind.__required_keys__ <= given.keys():
            raise TypeError(f"not the fields of {kind}")
        return {name: _structured(field, given[name]) for name, field in _types(kind).items() if name in given}
    if is_dataclass(kind):
        given = _of(dict, value)
        if given.keys() != {field.name for field in fields(kind)}:
            raise TypeError(f"not the fields of {kind}")
        return kind(**{name: _structured(field, given[name]) for name, field in _types(kind).items()})  # type: ignore[operator,arg-type]
    if kind is Any:
        return value
    if kind is str:
        raw(_of(str, value))
    return float(value) if kind is float and type(value) is int else _of(kind, value)


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind}")
    return value
