"""Which readers of other projects are installed; none of them is ever required."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed(package: str) -> str | None:
    """Name and version of an installed package, or None.

    Asked of the package's metadata: a folder called ``datasets`` in the working directory can be
    imported, too.

    Example:
        >>> installed("numpy").split()[0], installed("no-such-package")
        ('numpy', None)
    """
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None
