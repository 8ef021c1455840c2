"""`lightbox explain`: which voxels of an image speak for a class."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError
from .reading import add_reading, read_input, read_labels
from .words import err, out, typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Show which voxels speak for a class, and which against it: a map with the geometry of the image, its figures, "
        "and a page with pictures."
    )
    parser.add_argument(
        "input", metavar="IMAGE", nargs="+", help="a file or a DICOM folder for each channel of the model"
    )
    parser.add_argument(
        "--model", required=True, nargs="+", help="a shipped model or a model's folder; several are explained together"
    )
    parser.add_argument("--label", required=True, metavar="NAME", help="the class, by name or value")
    parser.add_argument(
        "--method",
        default="integrated_gradients",
        help="integrated_gradients (default), gradient (gradient x input), grad_cam or occlusion",
    )
    parser.add_argument(
        "--region", metavar="LABELS", help="explain these voxels only (default: where the class is found)"
    )
    parser.add_argument("--value", type=int, metavar="N", help="of the region, only this label")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, made if it is missing")
    parser.add_argument("--layer", metavar="NAME", help="of grad_cam (default: the bottleneck)")
    parser.add_argument("--steps", type=int, help="of integrated_gradients: passes a window (default: as --gap needs)")
    parser.add_argument(
        "--gap", type=float, default=0.02, help="without --steps: what the map's sum may miss, a share (default 0.02)"
    )
    parser.add_argument(
        "--baseline",
        help="a number as the network sees it, mean, minimum or blurred (default: what suits the model)",
    )
    parser.add_argument("--patch", metavar="MM", help="of occlusion: edge of the patches, or z,y,x (2D models: y,x)")
    parser.add_argument("--stride", metavar="MM", help="of occlusion: how far apart they are (default: side by side)")
    parser.add_argument("--frame", type=int, help="of an image with frames, counted from 0 (default: all)")
    parser.add_argument("--force", action="store_true", help="go on where image and model do not fit each other")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """Make the maps, and write them."""
    from ..models import attribute, load
    from ..report.explained import FILES, SUMMED, UNITS, map_names, write_explained

    folder = Path(args.out)
    names = [*map_names(1), *map_names(len(args.input)), *FILES]
    there = next((folder / name for name in names if (folder / name).exists()), None)
    if there is not None and not args.overwrite:
        raise FileError(f"{there} exists: choose another folder, or add --overwrite")
    chosen = {"baseline": _number(args.baseline), "patch": _lengths(args.patch, "--patch"),
              "stride": _lengths(args.stride, "--stride")}  # fmt: skip
    models = [load(one) for one in args.model]
    images = [read_input(args, path, "image") for path in args.input]
    region = None if args.region is None else _region(args)
    label = int(args.label) if args.label.isdigit() else args.label
    found = attribute(images, models, label, method=args.method, region=region, layer=args.layer, steps=args.steps,
                      gap=args.gap, frame=args.frame, device=args.device, check=not args.force, **chosen)  # fmt: skip
    maps = found if isinstance(found, list) else [found]
    files = write_explained(folder, maps, images, region, overwrite=args.overwrite)
    for note in maps[0].meta["notes"]:
        err(f"note: {typed(note)}")
    about = maps[0].meta["attribution"]
    err(f"note: {UNITS[about['method']]}")
    for number, one in enumerate(about["frames"]):
        rest = "" if one["baseline"] is None else f", of the baseline {one['baseline']:.6g}"
        gap = "" if one.get("gap") is None else f", which misses {one['gap']:.2%} of the change in {one['steps']} steps"
        added = f", sum of the map {one['sum']:.6g}{gap}" if about["method"] in SUMMED else ""
        out(f"frame {number}: target {one['target']:.6g}{rest}{added}")
    out(", ".join(str(path) for path in files))
    return 0


def _region(args: argparse.Namespace) -> Any:
    region = read_labels(args, args.region, "explain")
    if args.value is None:
        return region
    import numpy as np

    mask = (np.asarray(region.data) == args.value).astype(np.uint8)
    return region.replace(data=mask, name=f"{region.name}, label {args.value}", labels={})


def _number(text: str | None) -> float | str | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _lengths(text: str | None, name: str) -> float | list[float] | None:
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} {text!r} must be a length in mm, or some apart by commas, such as 20,10,10") from None
    return found[0] if len(found) == 1 else found
