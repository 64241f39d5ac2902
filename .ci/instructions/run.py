#!/usr/bin/env python3
"""Counts what a small file costs: the instructions and allocations of each stage it goes through, and of all of them.

Fails when a count is more than a tenth above what is recorded in recorded.json. With --accept, records what is counted
instead. Each stage (crates/instructions) runs under callgrind for some files and for twice as many: what a file costs is
the difference, so that nothing of the start is in it. See docs/BENCHMARKS.md.
"""

import argparse
import doctest
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_name("recorded.json")
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PROFILE = "instructions"
KEPT = TARGET / PROFILE / "callgrind"
STAGES = ["walk", "read", "checksum", "sign", "put", "engine", "record"]
TOLERANCE_PERCENT = 10
# As many as a walk hands on at a time (BATCH_EVENTS in crates/transfer/src/scan.rs).
FILES = 256
ALLOCATING = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"}
KINDS = ["instructions", "allocations"]
ACCEPT = f"`make instructions ACCEPT=1`, and commit {RECORDED.relative_to(ROOT)}"


def change(recorded, now):
    """By how many percent it grew.

    >>> change(200, 220), change(200, 150), change(0, 0)
    (10.0, -25.0, 0.0)
    >>> change(0, 1)
    inf
    """
    if recorded == 0:
        return 0.0 if now == 0 else float("inf")
    return (now - recorded) * 100 / recorded


def compare(recorded, now):
    """What grew, and what shrank, by more than is tolerated; as (stage, kind, percent).

    >>> compare({"a": {"instructions": 1000, "allocations": 10}}, {"a": {"instructions": 1100, "allocations": 9}})
    ([], [('a', 'allocations', -10.0)])
    >>> compare({"a": {"instructions": 1000, "allocations": 10}}, {"a": {"instructions": 1101, "allocations": 9.5}})
    ([('a', 'instructions', 10.1)], [])
    """
    changes = [(stage, kind, change(recorded[stage][kind], now[stage][kind])) for stage in now for kind in KINDS]
    grown = [entry for entry in changes if entry[2] > TOLERANCE_PERCENT]
    return grown, [entry for entry in changes if entry[2] <= -TOLERANCE_PERCENT]


def totals(lines):
    r"""The instructions of a file of callgrind's, and the calls of what allocates. It names a function once, and then by its
    number.

    >>> totals(["fn=(1) main", "cfn=(2) malloc", "calls=3 0", "1 9", "cfn=(3) free", "calls=4 0", "fn=(2)", "cfn=(1)",
    ...         "calls=1 0", "fn=(4) x", "cfn=(2)", "calls=5 0", "totals: 99"])
    {'instructions': 99, 'allocations': 8}
    """
    names, callee, instructions, allocations = {}, None, None, 0
    for line in lines:
        if found := re.match(r"(c?)fn=\((\d+)\)(?: (.+))?", line):
            is_call, number, name = found.groups()
            if name:
                names[number] = name.strip().removeprefix("__libc_")
            if is_call:
                callee = names[number]
        elif found := re.match(r"calls=(\d+)", line):
            allocations += int(found[1]) if callee in ALLOCATING else 0
        elif found := re.match(r"totals: (\d+)", line):
            instructions = int(found[1])
    if instructions is None:
        raise SystemExit("instructions: callgrind wrote no totals")
    return {"instructions": instructions, "allocations": allocations}


def command(*arguments):
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout


def tools():
    """What the counts depend on besides the sources."""
    return {
        "rustc": command("rustc", "--version").split()[1],
        "libc": " ".join(platform.libc_ver()),
        "valgrind": command("valgrind", "--version").strip().removeprefix("valgrind-"),
    }


def make_tree(program, folder, files):
    """A directory with as many small files; `None` where they are not read the way that is counted: not all file systems can
    tell what is in memory."""
    folder.mkdir()
    made = subprocess.run([program, "tree", str(files), folder], stderr=subprocess.DEVNULL)
    return folder if made.returncode == 0 else None


def count(program, stage, files, tree):
    """What a stage costs with as many files, the start included."""
    out = KEPT / f"{stage}-{files}.out"
    # Nothing of this environment: its size moves the stack.
    ran = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet", program, stage, str(files), tree],
        env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        raise SystemExit(f"instructions: the stage {stage} failed:\n{ran.stdout}")
    with out.open() as lines:
        return totals(lines)


def measure(program):
    """What each stage costs for one file."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    for place in (KEPT, Path("/dev/shm")):
        if not os.access(place, os.W_OK):
            continue
        with tempfile.TemporaryDirectory(dir=place) as folder, ThreadPoolExecutor(2) as pool:
            trees = {files: make_tree(program, Path(folder) / str(files), files) for files in (FILES, 2 * FILES)}
            if None in trees.values():
                continue
            runs = [(stage, files) for stage in STAGES for files in trees]
            counts = dict(zip(runs, pool.map(lambda run: count(program, *run, trees[run[1]]), runs)))
            return {stage: {kind: round((counts[stage, 2 * FILES][kind] - counts[stage, FILES][kind]) / FILES, digits)
                            for kind, digits in zip(KINDS, (None, 1))} for stage in STAGES}
    raise SystemExit(f"instructions: neither {KEPT} nor /dev/shm is on a file system of which files can be read without a "
                     "hop (ext4, XFS, Btrfs, tmpfs, on a kernel that can tell what is in memory): set CARGO_TARGET_DIR")


def show(recorded, now):
    print(f"{'for each file':15}" + "".join(f"{kind:>14}{'recorded':>12}{'change':>10}" for kind in KINDS))
    for stage in now:
        line = f"{stage:15}"
        for kind in KINDS:
            before = recorded.get(stage, {}).get(kind)
            known = ["-", "-"] if before is None else [f"{before:,}", f"{change(before, now[stage][kind]):+.1f} %"]
            line += f"{now[stage][kind]:>14,}{known[0]:>12}{known[1]:>10}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="record what is counted, whatever it is")
    options = parser.parse_args()
    if doctest.testmod().failed:
        return 1
    record = json.loads(RECORDED.read_text()) if RECORDED.exists() else {"machine": platform.machine(), "stages": {}}
    if record["machine"] != platform.machine() and not options.accept:
        print(f"instructions: the record is of {record['machine']}, this is {platform.machine()}: NOT counted")
        return 0
    if not shutil.which("valgrind"):
        print("instructions: valgrind is missing: apt-get install valgrind", file=sys.stderr)
        return 1
    subprocess.run(["cargo", "build", "--locked", "--profile", PROFILE, "-p", "instructions"], check=True, cwd=ROOT)
    made_with, now = tools(), measure(TARGET / PROFILE / "instructions")
    show(record["stages"], now)
    if options.accept:
        record = {"machine": platform.machine(), "made_with": made_with, "stages": now}
        RECORDED.write_text(json.dumps(record, indent=2) + "\n")
        print(f"instructions: written to {RECORDED.relative_to(ROOT)}; commit it, and say why")
        return 0
    for tool, version in made_with.items():
        if record["made_with"][tool] != version:
            print(f"instructions: recorded with {tool} {record['made_with'][tool]}, this is {version}: that alone may "
                  "change the counts")
    if record["stages"].keys() != now.keys():
        print(f"instructions: other stages than are recorded: {ACCEPT}", file=sys.stderr)
        return 1
    grown, shrunk = compare(record["stages"], now)
    for stage, kind, percent in shrunk:
        print(f"instructions: {stage} needs {-percent:.1f} % fewer {kind}. To keep it so: {ACCEPT}")
    for stage, kind, percent in grown:
        print(f"instructions: {stage} needs {percent:.1f} % more {kind} for each file than is recorded, and "
              f"{TOLERANCE_PERCENT} % are allowed", file=sys.stderr)
    if grown:
        print(f"Where they go: callgrind_annotate --inclusive=yes {KEPT}/{grown[0][0]}-{2 * FILES}.out\n"
              f"When they are worth it: {ACCEPT}", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
