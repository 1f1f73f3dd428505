#!/usr/bin/env python3
"""Keeps a few journals of real runs beside the tests of the machines.

usage: pick_journals.py FROM TO

FROM is a directory of journals, as the integration tests leave them when
SPRITE_TEST_JOURNALS names one. A few short ones that together took every step that any
of them took are copied to TO, in place of what is there; times are left out, so that
the same runs give the same files.
"""

import json
import pathlib
import sys


def lines(path):
    """The whole lines of a journal; a crash may have cut off the last."""
    for text in path.read_text().splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            return


def steps(line):
    """The different steps of a line, without the numbers of components."""
    for step in line.get("steps", []):
        machine, event = next(iter(step["input"].items()))
        event = event[1] if machine == "Component" else event
        # Of how a process ended, the conditions say what counts.
        event = event if isinstance(event, str) else next(iter(event))
        yield json.dumps([machine, event, step["from"], step["to"], step["guards"]])


def main():
    source, target = map(pathlib.Path, sys.argv[1:])
    journals = {path: list(lines(path)) for path in sorted(source.iterdir())}
    # A journal that was begun anew in the middle of a run starts with what it cannot explain.
    journals = {p: j for p, j in journals.items() if j and j[0].get("after") == 0}
    taken = {p: {s for line in j for s in steps(line)} for p, j in journals.items()}
    missing = set().union(*taken.values())
    picked = []
    while missing:
        gain = lambda p: len(taken[p] & missing) / (5 + len(journals[p]))
        best = max(sorted(journals), key=gain)
        picked.append(best)
        missing -= taken[best]
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.jsonl"):
        old.unlink()
    for number, path in enumerate(picked):
        for line in journals[path][1:]:
            line["time"] = ""
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in journals[path])
        (target / f"run-{number:02}.jsonl").write_text(text)
    print(f"{len(picked)} of {len(journals)} journals took every step that was taken")


if __name__ == "__main__":
    main()
