"""`lightbox bench`: how fast the operations are here, beside other libraries."""

import argparse
import json
from pathlib import Path

from ..errors import InputError
from .words import out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--quick", action="store_true", help="small volumes and fewer rows: about a minute")
    parser.add_argument("--only", metavar="NAMES", help="only these operations, apart by commas, such as median,otsu")
    parser.add_argument("--json", metavar="FILE", help="also write all figures to a file")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run(args: argparse.Namespace) -> int:
    """Measure, and print every row when it is done; 1 where a result differs."""
    from ..bench import choose, measure, run, text
    from .commands import check_place

    rows = choose(args.only, args.quick)
    target = None
    if args.json is not None:
        target = Path(args.json)
        if target.suffix.lower() != ".json":
            raise InputError(f"--json {target} must end in .json")
        check_place(target, args.overwrite)
    facts = run.machine()
    out(text.of_machine(facts))
    found = measure(rows, facts["copy_bytes_per_second"], quick=args.quick, tell=lambda row: out(text.of_row(row)))
    missing = run.absent(found)
    out(text.of_end(found, missing))
    if target is not None:
        whole = {"machine": facts, "quick": args.quick, "absent": missing, "rows": [row.plain() for row in found]}
        target.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        out(f"{target}: all figures")
    return 0 if all(row.same for row in found) else 1
