"""`python -m stress`, and the console script. A spawned worker imports this module again: keep it light."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return the exit status."""
    try:
        from stress.cli import main as command  # here, not above: workers have no use for it
    except KeyboardInterrupt:
        print("stress: interrupted", file=sys.stderr)
        return 130

    return command()


if __name__ == "__main__":
    sys.exit(main())
