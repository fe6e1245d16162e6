"""What the pages share: the template engine, the style sheet, and how values are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any


def template(name: str) -> Any:
    """A page template of this package, by file name. ``css`` is defined in it.

    Example:
        >>> template("report.html.j2").__class__.__name__
        'Template'
    """
    import jinja2

    # Class names, ids and settings come from users: everything is escaped unless it is ours.
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(static_file),
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "fraction": fraction,
        "duration": duration,
        "change": change,
    }
    environment.globals["css"] = static_file("report.css")
    return environment.get_template(name)


def static_file(name: str) -> str:
    """Text of a file beside the templates."""
    return resources.files("recamlabel.review.page").joinpath("templates", name).read_text(encoding="utf-8")


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``section.key`` and value of every setting of a nested mapping.

    Example:
        >>> list(flat({"seed": 0, "maps": {"flip": True}}))
        [('seed', 0), ('maps.flip', True)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def short(value: Any) -> str:
    """A value in few characters: floats with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def number(value: int) -> str:
    """Thousands apart by a thin space."""
    return f"{value:,}".replace(",", "\u2009")


def percent(value: float | None) -> str:
    """One decimal; a dash for None."""
    return "–" if value is None else f"{value:.1f}"


def fraction(value: float | None) -> str:
    """Two decimals; a dash for None."""
    return "–" if value is None else f"{value:.2f}"


def change(value: float) -> str:
    """One decimal with its sign; zero without."""
    rounded = round(value, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
