"""``python fit_quickly.py fit …``: the command line with fits as short as the tests' own, and little patience."""

import conftest  # noqa: F401  (it shortens the fits)

from recamlabel.cli.main import main
from recamlabel.core import ranks

ranks.MISSED_BEATS = 10

if __name__ == "__main__":
    main()
