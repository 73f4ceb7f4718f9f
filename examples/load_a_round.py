"""A published round back, every digest checked; then the same rows with `datasets` alone.

python examples/load_a_round.py                                  the quickstart's round 3, from the local Hub
python examples/load_a_round.py org/name 3 --endpoint hub        somebody's round, from the Hugging Face Hub
"""

from __future__ import annotations

import argparse

from evokd_data import load_round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", nargs="?", default="local/quickstart-intents")
    parser.add_argument("round", nargs="?", type=int, default=3)
    parser.add_argument("--endpoint", default="local", help="`local`, `hub`, or a URL")
    options = parser.parse_args()
    endpoint = None if options.endpoint == "hub" else options.endpoint

    rows = load_round(options.repo, options.round, endpoint=endpoint)["train"]
    print(f"{options.repo}, rounds 0 to {options.round}: {len(rows)} samples, columns {rows.column_names}")
    fresh = rows.filter(lambda row: row["round"] == options.round)
    label = rows.features["label"].int2str(fresh[0]["label"])
    print(f"of them {len(fresh)} are round {options.round}'s own; the first: {fresh[0]['text']!r} -> {label}")
    if endpoint is None:
        print(f'without this package: load_dataset("{options.repo}", revision="round-{options.round:03d}")')


if __name__ == "__main__":
    main()
