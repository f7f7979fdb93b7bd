"""Lets an online rewrite run in each bad situation, for a plain owner and with pg_monitor; `make situations`."""

import argparse
import sys
from dataclasses import asdict

import reliability_data
import reliability_page
from reliability_data import SITUATIONS as KEPT
from reliability_data import anonymous, commit
from support.visibility import situations
from support.visibility.situations import ROLES, SITUATIONS


def main() -> None:
    """Run what was asked for, keep what came of it, write docs/reliability.md, and name what went wrong."""
    args = arguments()
    found = dict(reliability_data.read(KEPT))
    wrong: list[str] = []
    with situations.staged() as stage:
        for name in (name for name in SITUATIONS if args.only in name):
            for role in ROLES:
                outcome = situations.run(stage, name, role)
                print(f"{name}, {role}: {outcome.code}, {outcome.problem or outcome.said or 'at target'}", flush=True)
                kept = asdict(outcome) | {"said": anonymous(outcome.said), "held_back": anonymous(outcome.held_back)}
                found[f"{name}, {role}"] = kept | {"commit": commit()}
                wrong += [outcome.problem] * bool(outcome.problem)
                reliability_data.write(KEPT, found)
    reliability_page.write()
    sys.exit(bool(wrong))


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="situations with that text in their name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
