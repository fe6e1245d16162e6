"""``python -m recamlabel``."""

from recamlabel.cli.main import main

if __name__ == "__main__":
    main()
