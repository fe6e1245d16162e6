"""Things by name: those of this package, and those of others by entry points.

Nothing is imported before it is asked for. Whatever another package does wrong is told as its fault, names it, and
leaves all other names usable; a name of this package cannot be taken by another.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint
from typing import Any, Generic, TypeVar

from recamlabel.core.plugins import FlawError, Offer, owner, package, points_of
from recamlabel.errors import ConfigError, RecamlabelError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names and what they stand for.

    Args:
        key: Setting or option that takes the name, for messages.
        kind: One of the things, in the singular.
        built_in: By name the thing itself, or ``"module:attribute"`` where importing it is not cheap.
        group: Entry point group of other packages' things; None: there are none.
        adopt: Makes what is handed out of what another package's entry point names; raises :class:`FlawError`.
        error: What a miss raises.
        auto: Whether ``auto`` may be given in a name's place; who has it resolves it.

    Example:
        >>> rules = Registry("recam.combine", "rule", {"sum": "operator:add", "mean": min})
        >>> list(rules), rules["sum"](1, 2)
        (['sum', 'mean'], 3)
        >>> rules.find("men")
        Traceback (most recent call last):
        recamlabel.errors.ConfigError: recam.combine: unknown 'men', did you mean 'mean'? The rules are: sum, mean
    """

    def __init__(
        self,
        key: str,
        kind: str,
        built_in: Mapping[str, T | str],
        group: str | None = None,
        adopt: Callable[[Any, EntryPoint], T] = lambda thing, point: thing,
        error: type[RecamlabelError] = ConfigError,
        auto: bool = False,
    ) -> None:
        self.key, self.kind, self.group, self.adopt, self.error = key, kind, group, adopt, error
        self.choices_before = ("auto",) if auto else ()
        self.built_in = dict(built_in)

    def find(self, name: str) -> T:
        """What a name stands for.

        Raises:
            RecamlabelError: Of the kind ``error``: nothing of that name (lists all, and the nearest), or another
                package's thing that cannot be used.
        """
        if name in self.built_in:
            thing = self.built_in[name]
            if isinstance(thing, str):
                module, _, attribute = thing.partition(":")
                thing = self.built_in[name] = getattr(importlib.import_module(module), attribute)
            return thing
        points = [point for point in self._points() if point.name == name]
        if not points:
            raise self.error(unknown(self.key, name, (*self.choices_before, *self.names), self.kind))
        if len(points) > 1:
            owners = ", ".join(sorted(map(owner, points)))
            raise self.error(
                f"{self.kind} {name!r} is offered by {len(points)} packages ({owners}); uninstall all but one"
            )
        return self._load(points[0])

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those of this package first."""
        return (*self.built_in, *self.others())

    def others(self) -> tuple[str, ...]:
        """Names of other packages' things, sorted, without importing one."""
        return tuple(sorted({point.name for point in self._points()} - {*self.built_in, "auto"}))

    def origin(self, name: str) -> str:
        """Name and version of the package that a name is from; empty for this package's own, and for none."""
        if name in self.built_in or name == "auto":
            return ""
        return next((package(point) for point in self._points() if point.name == name), "")

    def shadowed(self, name: str) -> str:
        """What to say where a name that is asked for is this package's own, and another package offers one too."""
        rivals = [point for point in self._points() if point.name == name] if name in self.built_in else []
        return "; ".join(map(self._taken, rivals))

    def offers(self) -> list[Offer]:
        """Everything that other packages offer, imported, with what is wrong with it."""
        found = []
        for point in self._points():
            fault = ""
            if point.name in {*self.built_in, "auto"}:
                fault = self._taken(point)
            else:
                try:
                    self.find(point.name)
                except RecamlabelError as error:
                    fault = str(error)
            found.append(Offer(self.kind, point.name, package(point), point.value, fault))
        return found

    def load_others(self) -> tuple[list[T], list[str]]:
        """Other packages' things that can be used, and a message for each that cannot."""
        usable, broken = [], []
        for name in self.others():
            try:
                usable.append(self.find(name))
            except RecamlabelError as error:
                broken.append(str(error))
        return usable, broken

    def _taken(self, point: EntryPoint) -> str:
        return (
            f"{self.kind} {point.name!r} of {owner(point)} is not used: recamlabel has one of its own by that name; "
            "ask the package to rename it"
        )

    def _points(self) -> tuple[EntryPoint, ...]:
        return points_of(self.group) if self.group else ()

    def _load(self, point: EntryPoint) -> T:
        who = f"{self.kind} {point.name!r} of {owner(point)} ({point.value})"
        try:
            return self.adopt(point.load(), point)
        except FlawError as error:
            raise self.error(f"{who} {error}; repair or uninstall the package") from None
        except (Exception, SystemExit) as error:  # a module that calls sys.exit() would end the command without a word
            raise self.error(
                f"{who} cannot be loaded: {type(error).__name__}: {error}; repair or uninstall the package"
            ) from error

    def __getitem__(self, name: str) -> T:
        if name not in self.names:
            raise KeyError(name)
        return self.find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def unknown(key: str, name: str, names: Iterable[str], kind: str = "choice") -> str:
    """What is said of a name that is none of these.

    Example:
        >>> unknown("--only", "al", ["all", "reviewed"])
        "--only: unknown 'al', did you mean 'all'? The choices are: all, reviewed"
    """
    names = tuple(names)
    return f"{key}: unknown {name!r}{near(name, names)} The {kind}s are: {', '.join(names)}"


def check_choice(key: str, name: str, names: Iterable[str], kind: str = "choice") -> None:
    """Refuse a name that is none of these. Raises ConfigError (:func:`unknown`)."""
    names = tuple(names)
    if name not in names:
        raise ConfigError(unknown(key, name, names, kind))


def near(name: str, names: Iterable[str]) -> str:
    """``, did you mean 'x'?`` where a name is near to one of these; else ``.``.

    Example:
        >>> near("qick", ["quick", "paper"]), near("x", ["quick"])
        (", did you mean 'quick'?", '.')
    """
    nearest = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f", did you mean {nearest[0]!r}?" if nearest else "."


def checked(*parts: str) -> Callable[[Any, EntryPoint], Any]:
    """An ``adopt`` for things, or classes of them, that have these attributes and are called as their entry point."""

    def adopt(thing: Any, point: EntryPoint) -> Any:
        thing = thing() if isinstance(thing, type) else thing
        missing = [part for part in ("name", *parts) if not hasattr(thing, part)]
        if missing:
            raise FlawError(f"has no {', '.join(missing)}")
        if thing.name != point.name:
            raise FlawError(f"calls itself {thing.name!r}; expected the name of its entry point")
        return thing

    return adopt


def called(thing: Any, point: EntryPoint) -> Any:
    """An ``adopt`` for things that are called."""
    if not callable(thing):
        raise FlawError(f"is a {type(thing).__name__}; expected a function")
    return thing
