"""From the files of a series to the volumes in them, by headers alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import FileError
from . import _dicom_frames, _dicom_holes
from ._dicom_frames import Sorted
from ._dicom_headers import Header, Series
from ._dicom_slices import Slice, slices_of
from ._dicom_stack import Stack, alike, axes, by_position, listed, stack

_REMEDY_HOLES = "open it with even=True (--even on the command line), which interpolates them within their frames"
REMEDY = "open it with even=True (--even on the command line), which resamples it to even slices"
_PLANES = ("sagittal", "coronal", "axial")


@dataclass
class Part:
    """One volume of a series; or what its files would be, with the problem that keeps it from being one.

    Parameters
    ----------
    series : Series
    headers : list of Header
        Of the files it is made of.
    suffix : str
        What tells it apart from the other volumes of its series.
    sorted : Sorted or None
        Its slices; None where there is a problem with these.
    stack : Stack or None
        Where they lie; None for images without a position.
    problem : FileError or None
        Why it cannot be opened at all.
    number : int
        Its place among the volumes of the series; 0 where it is the only one.
    """

    series: Series
    headers: list[Header]
    suffix: str = ""
    sorted: Sorted | None = None
    stack: Stack | None = None
    problem: FileError | None = None
    number: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def first(self) -> Header:
        """Header that speaks for all."""
        return self.headers[0]

    @property
    def text_number(self) -> str:
        """Series number; with a running number behind a point where the series has several volumes."""
        number = self.first.text("SeriesNumber")
        return f"{number or '?'}.{self.number}" if self.number else number

    @property
    def title(self) -> str:
        """Description of the series with what tells this volume apart."""
        return f"{self.series.title} ({self.suffix})" if self.suffix else self.series.title

    @property
    def subject(self) -> str:
        """What a sentence calls it."""
        return _subject(self.series, self.headers, self.suffix)

    @property
    def refusal(self) -> FileError | None:
        """Why it cannot be opened as it is."""
        if self.problem is not None:
            return self.problem
        if self.stack is not None and self.stack.problem is not None:
            copy = "copy the whole series again, or " if self.stack.missing else ""
            return FileError(f"{self.stack.problem}; {copy}{REMEDY}")
        if self.sorted is not None and self.sorted.holes:
            return FileError(
                f"{self.subject} lacks images that its other frames have: {_dicom_holes.told(self.sorted)}; copy the "
                f"whole series again, or {_REMEDY_HOLES}"
            )
        return None

    @property
    def remedy_even(self) -> bool:
        """Whether resampling would open it."""
        return self.problem is None and self.refusal is not None

    def copies(self, compared: bool) -> list[str]:
        """Say in a sentence which images are left out as copies, before their pixels are `compared` or after."""
        pairs = [] if self.sorted is None else self.sorted.copies
        # Whole files where all images of a file are copies.
        named = [
            (b.header.path.name, a.header.path.name) if a.header is not b.header else (b.label, a.label)
            for a, b in pairs
        ]
        if not pairs:
            return []
        left, kept = (listed(list(dict.fromkeys(side))) for side in zip(*named, strict=True))
        if compared:
            return [f"left out as copies, with the same pixels at the same positions: {left} (of {kept})"]
        return [
            f"nothing in their headers tells {left} and {kept} apart, which lie at the same positions: one of two is "
            "left out if they have the same pixels, which is seen when they are read"
        ]

    def summary(self) -> str:
        """Number, title, modality and count of images, for a list to choose from."""
        if self.sorted:
            count = sum(len(f) for f in self.sorted.frames) - len(self.sorted.holes)
        else:
            count = sum(h.frames for h in self.headers)
        images = f"{count} image{'s' * (count > 1)}"
        return f"{self.text_number or '?'}: {self.title!r}, {self.first.text('Modality')}, {images}"


def _subject(series: Series, headers: Sequence[Header], suffix: str) -> str:
    if len(headers) == 1:
        return str(headers[0].path)
    title = f"{series.title} ({suffix})" if suffix else series.title
    return f"series {series.number or '?'} {title!r} in {headers[0].path.parent}"


def closed(part: Part) -> Part:
    """Return a part without the frames, or positions, at whose ends images are missing."""
    one = _dicom_holes.with_closed_ends(part.sorted, part.subject)
    if one is part.sorted:
        return part
    return replace(
        part, sorted=one, stack=_one_stack(one, part.subject), notes=[*part.notes, *one.notes[len(part.sorted.notes) :]]
    )


def parts_of(all_series: Sequence[Series]) -> list[Part]:
    """Return the volumes of all series, each with its slices sorted and placed, or with its problem."""
    parts = [part for series in all_series for part in _parts_of_one(series)]
    siblings: dict[str, list[Part]] = {}
    for part in parts:
        siblings.setdefault(part.first.text("SeriesInstanceUID") or str(part.first.path.parent), []).append(part)
    for group in siblings.values():
        for number, part in enumerate(group if len(group) > 1 else (), start=1):
            part.number = number
            if part.first.is_dose and not part.suffix:
                # Of the plan and of its beams; each file is a grid of its own.
                part.suffix = " ".join(
                    filter(None, (part.first.text("DoseSummationType").lower(), part.first.path.name))
                )
    return parts


def _parts_of_one(series: Series) -> list[Part]:
    slices: list[Slice] = []
    broken: list[Part] = []
    for header in series.headers:
        try:
            slices += slices_of(header)
        except FileError as error:
            broken.append(Part(series, [header], problem=error))
    if broken:
        # A slice that is not understood would leave a hole, or a stack that ends too early.
        if series.stacked or not slices:
            return [Part(series, series.headers, problem=broken[0].problem)]
        series = replace(series, headers=[h for h in series.headers if all(h is not b.first for b in broken)])
    return [*(_parts(series, slices) if slices else []), *broken]


def _parts(series: Series, slices: list[Slice]) -> list[Part]:
    lost = [s.label for s in slices if not s.placed]
    if len(lost) == len(slices):
        return [_flat(series, slices)]
    if lost:
        error = FileError(f"{series.subject} has no position or orientation in {listed(lost)}: its header is wrong")
        return [Part(series, series.headers, problem=error)]
    try:
        groups = alike(slices, series.subject)
    except FileError as error:
        return [Part(series, series.headers, problem=error)]
    words = _told_apart(groups)
    parts = [p for group, word in zip(groups, words, strict=True) for p in _stacked(series, group, word)]
    files = {h.path for p in parts if p.problem is not None for h in p.headers}
    if len(series.headers) > 1 and files and any(h.frames > 1 or h.is_mosaic for h in series.headers):
        # Files that are volumes of their own need not belong together.
        apart = [_parts(replace(series, headers=[h]), [s for s in slices if s.header is h]) for h in series.headers]
        if all(p.problem is None for single in apart for p in single):
            return [_renamed(p, series) for single in apart for p in single]
    return parts


def _renamed(part: Part, series: Series) -> Part:
    part.series = series
    part.suffix = " ".join(filter(None, (part.suffix, part.first.path.name)))
    return part


def _flat(series: Series, slices: list[Slice]) -> Part:
    """Images without a position: a picture or a film."""
    part = Part(series, series.headers)
    if len({s.size for s in slices}) > 1:
        part.problem = FileError(f"{series.subject} mixes image sizes and has no positions: load its files one by one")
    else:
        part.sorted = Sorted([[s] for s in slices])
    return part


def _told_apart(groups: list[list[Slice]]) -> list[str]:
    """Say in a word or two how groups of slices differ: by plane, size, pixel spacing."""
    if len(groups) == 1:
        return [""]
    planes = [_PLANES[int(np.argmax(np.abs(axes(g[0])[2])))] for g in groups]
    words = []
    for group, plane in zip(groups, planes, strict=True):
        s = group[0]
        word = [plane] if len(set(planes)) > 1 else []
        if len({g[0].size for g in groups}) > 1:
            word.append(f"{s.size[1]} x {s.size[0]}")
        words.append(" ".join(word))
    for n, word in enumerate(words):
        if words.count(word) > 1 or not word:
            words[n] = " ".join(filter(None, (word, f"part {n + 1}")))
    return words


def _stacked(series: Series, slices: list[Slice], word: str) -> list[Part]:
    """Make volumes of slices of one orientation and size; of each declared stack where all together make none."""
    parts = _sorted_parts(series, slices, word)
    if all(p.refusal is None for p in parts):
        return parts
    stacks: dict[str, list[Slice]] = {}
    for s in slices:
        stacks.setdefault(str(s.header.get("StackID", "", s.group("FrameContentSequence"))), []).append(s)
    apart = [
        part
        for name, group in (stacks.items() if len(stacks) > 1 else ())
        for part in _sorted_parts(series, group, ", ".join(filter(None, (word, f"stack {name}"))))
    ]
    return apart if apart and all(p.refusal is None for p in apart) else parts


def _sorted_parts(series: Series, slices: list[Slice], word: str) -> list[Part]:
    headers = list({id(s.header): s.header for s in slices}.values())
    subject = _subject(series, headers, word)
    try:
        sorted_out = _dicom_frames.sort_out(by_position(slices), subject)
    except FileError as error:
        return [Part(series, headers, word, problem=error)]
    parts = []
    for one in sorted_out:
        used = {id(s.header) for frame in one.frames for s in frame} | {id(c.header) for _, c in one.copies}
        part = Part(
            series, [h for h in headers if id(h) in used], ", ".join(filter(None, (word, one.suffix))), sorted=one
        )
        try:
            part.stack = _one_stack(one, part.subject)
            part.notes += _remarks(part)
        except FileError as error:
            part.problem, part.sorted = error, None
        parts.append(part)
    return parts


def _remarks(part: Part) -> list[str]:
    """Say what people should know before they use it."""
    found = []
    if part.series.shared:
        found.append("its series UID is shared by images of another patient, study or kind, which are kept apart")
    if part.stack.tilt and part.stack.problem is None:
        found.append(
            f"the gantry was tilted by {part.stack.tilt:.3g} degrees: the voxels lie where they were scanned, on "
            "sheared axes; even=True (--even on the command line) resamples them to right angles"
        )
    return found + part.sorted.notes


def _one_stack(one: Sorted, subject: str) -> Stack:
    """Place the first frame and see that the others lie at the same places."""
    first = stack(one.frames[0], subject)
    if len(one.frames) == 1:
        return first
    pixel = float(min(one.frames[0][0].pixel_spacing))
    here = np.stack([s.position for s in one.frames[0]])
    for frame in one.frames[1:]:
        moved = np.linalg.norm(np.stack([s.position for s in frame]) - here, axis=1)
        if moved.max() > max(0.1 * pixel, 0.02):
            worst = int(np.argmax(moved))
            labels = listed([one.frames[0][worst].label, frame[worst].label])
            raise FileError(
                f"{subject} moves from frame to frame: {labels} lie {moved[worst]:.3g} mm apart; put the frames in "
                "folders apart"
            )
    return first
