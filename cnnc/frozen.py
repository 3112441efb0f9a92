"""`dataclass(frozen=True)` for classes that every start of the program defines: the standard one in all but its cost.

The standard library's compiles six methods for each class when it is defined: a millisecond for each of a hundred
classes, half of what importing `cnnc` took. Here methods are shared, and `__init__`, which has to be fast, is compiled
when the first instance is made. `dataclasses.fields` and `replace` work; type checkers see the standard decorator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

Method = Callable[..., Any]


def _frozen(cls: type) -> type:
    """The class with fields and methods as `dataclass(frozen=True)` gives them."""
    if cls.__doc__ is None:
        cls.__doc__ = (
            cls.__name__
        )  # else dataclasses makes one up of the signature, which takes as long as all the rest
    dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    found = dataclasses.fields(cls)
    assert not any(field.kw_only or not field.init for field in found), cls
    values = _values(tuple(field.name for field in found if field.compare))
    methods: dict[str, Method] = {
        "__init__": _first_init(cls),
        "__repr__": _repr(tuple(field.name for field in found if field.repr)),
        "__eq__": lambda self, other: (
            values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented
        ),
        "__hash__": lambda self: hash(values(self)),
        "__setattr__": _refuse,
        "__delattr__": _refuse,
    }
    own = {name for name, value in vars(cls).items() if value is not None}
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    return cls


def _values(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """A function of an object to its attributes."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        only = attrgetter(names[0])
        return lambda each: (only(each),)
    return lambda each: ()


def _repr(names: tuple[str, ...]) -> Method:
    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


def _refuse(self: Any, name: str, value: Any = None) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _first_init(cls: Any) -> Method:
    """An `__init__` that puts the compiled one in its place."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = _compiled_init(cls)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _compiled_init(cls: Any) -> Method:
    """An `__init__` that writes the fields to the instance's dict, which no frozen `__setattr__` stands before."""
    known: dict[str, Any] = {"MISSING": dataclasses.MISSING}
    parameters, lines = ["self"], ["fields = self.__dict__"]
    for field in dataclasses.fields(cls):
        default, value = "", field.name
        if field.default is not dataclasses.MISSING:
            known[f"default_{field.name}"] = field.default
            default = f"=default_{field.name}"
        elif field.default_factory is not dataclasses.MISSING:
            known[f"make_{field.name}"] = field.default_factory
            default = "=MISSING"
            value = f"make_{field.name}() if {field.name} is MISSING else {field.name}"
        parameters.append(f"{field.name}{default}")
        lines.append(f"fields[{field.name!r}] = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    body = "\n  ".join(lines)
    exec(f"def __init__({', '.join(parameters)}):\n  {body}", known)
    made: Method = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool) -> Callable[[type], type]:
        """The decorator. There is no other than a frozen one."""
        assert frozen
        return _frozen
