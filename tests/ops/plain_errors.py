"""The list of errors the plain way: every kind of error labelled by itself, distances by a tree for each label."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage, spatial

_FEW = 1 << 16


def plain_errors(predicted: np.ndarray, reference: np.ndarray, steps) -> list[tuple]:
    """Return (kind, predicted, reference, voxels, depth, centre, deepest voxel) of each error, worst first."""
    steps = np.array(steps, float)
    truth, guess = _Objects(reference, steps), _Objects(predicted, steps)
    found = []
    for p, r, places in _pieces(predicted, reference):
        depths = truth.outside(p, places) if r == 0 else truth.inside(r, places)
        deepest = int(np.argmax(depths))
        voxel = tuple(int(n) for n in places[deepest])
        kind = _kind(p, r, places, guess, truth)
        found.append((kind, p, r, len(places), float(depths[deepest]), tuple(places.mean(axis=0).tolist()), voxel))
    return sorted(found, key=lambda one: (-one[3], one[6]))


def _pieces(predicted: np.ndarray, reference: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield each error as predicted label, reference label, and the (n, ndim) indices of its voxels."""
    wrong = predicted != reference
    if not wrong.any():
        return
    pairs, code = np.unique(
        np.stack([predicted[wrong], reference[wrong]]).astype(np.int64), axis=1, return_inverse=True
    )
    kinds = np.zeros(predicted.shape, np.int32)
    kinds[wrong] = code.ravel() + 1
    touching = np.ones((3,) * predicted.ndim, bool)
    boxes = ndimage.find_objects(kinds)
    for number, box in enumerate(boxes, start=1):
        p, r = (int(v) for v in pairs[:, number - 1])
        labelled, count = ndimage.label(kinds[box] == number, touching)
        corner = np.array([s.start for s in box])
        places = np.argwhere(labelled)
        owner = labelled[tuple(places.T)]
        order = np.argsort(owner, kind="stable")
        ends = np.cumsum(np.bincount(owner, minlength=count + 1)[1:])
        for part in np.split(order, ends[:-1]):
            yield p, r, places[part] + corner


def _kind(p: int, r: int, places: np.ndarray, guess: "_Objects", truth: "_Objects") -> str:
    if p and r:
        return "confused"
    here, other, own = (guess, truth, p) if p else (truth, guess, r)
    # Pieces of the other side, of this label, that touch the error.
    if len(other.touching(own, places, len(places))) > 1:
        return "merged" if p else "split"
    (piece,) = here.pieces_at(own, places[:1])
    if not other.meets(here, own, piece):
        return "invented" if p else "missed"
    return "too large" if p else "too small"


class _Objects:
    """The objects of a label map: connected pieces of each label, found when they are asked for."""

    def __init__(self, labels: np.ndarray, steps: np.ndarray) -> None:
        self.labels, self.steps = labels, steps
        self.boxes = _boxes(labels)
        self._pieces: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._trees: dict[tuple[int, bool], spatial.cKDTree | None] = {}
        self._sizes: dict[int, np.ndarray] = {}
        self._met: dict[int, set[int]] = {}

    def pieces(self, label: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the numbered pieces of a label, with one voxel around them, and the corner of that box."""
        if label not in self.boxes:
            return None
        if label not in self._pieces:
            box = self.boxes[label]
            mask = np.pad(self.labels[box] == label, 1)
            found = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))[0]
            self._pieces[label] = found, np.array([s.start - 1 for s in box])
        return self._pieces[label]

    def pieces_at(self, label: int, places: np.ndarray) -> set[int]:
        """Return the numbers of the pieces of a label at some places."""
        known = self.pieces(label)
        if known is None:
            return set()
        pieces, corner = known
        local = places - corner
        inside = ((local >= 0) & (local < pieces.shape)).all(axis=1)
        return set(np.unique(pieces[tuple(local[inside].T)]).tolist()) - {0}

    def touching(self, label: int, places: np.ndarray, least: int) -> set[int]:
        """Return the numbers of the pieces of a label, of so many voxels at least, that lie next to some places."""
        found = self.pieces_at(label, _around(places))
        if len(found) < 2:
            return found
        if label not in self._sizes:
            self._sizes[label] = np.bincount(self._pieces[label][0].ravel())
        return {piece for piece in found if self._sizes[label][piece] >= least}

    def meets(self, other: "_Objects", label: int, piece: int) -> bool:
        """Whether a piece that `other` has of a label shares a voxel with this map's region of the label."""
        if label not in self._met:
            pieces, corner = other.pieces(label)
            box = tuple(slice(c + 1, c + n - 1) for c, n in zip(corner, pieces.shape, strict=True))
            inner = pieces[(slice(1, -1),) * pieces.ndim]
            self._met[label] = set(np.unique(inner[self.labels[box] == label]).tolist()) - {0}
        return piece in self._met[label]

    def outside(self, label: int, places: np.ndarray) -> np.ndarray:
        """Return how far places outside a label's region are from it."""
        return self._distances(label, places, outward=False)

    def inside(self, label: int, places: np.ndarray) -> np.ndarray:
        """Return how far places in a label's region are from what is not in it."""
        return self._distances(label, places, outward=True)

    def _distances(self, label: int, places: np.ndarray, outward: bool) -> np.ndarray:
        key = (label, outward)
        if key not in self._trees:
            self._trees[key] = self._tree(label, outward)
        tree = self._trees[key]
        if tree is None:
            return np.full(len(places), np.inf)
        return tree.query(places * self.steps)[0]

    def _tree(self, label: int, outward: bool) -> spatial.cKDTree | None:
        """Return the outermost voxels of a region, or those just outside it, ready to be searched."""
        known = self.pieces(label)
        if known is None:
            return None
        pieces, corner = known
        mask = pieces > 0
        faces = ndimage.generate_binary_structure(mask.ndim, 1 if not outward else mask.ndim)
        edge = ndimage.binary_dilation(mask, faces) & ~mask if outward else mask & ~ndimage.binary_erosion(mask, faces)
        voxels = np.argwhere(edge) + corner
        if outward:
            # Nothing is known beyond the border of the array.
            voxels = voxels[((voxels >= 0) & (voxels < self.labels.shape)).all(axis=1)]
        return spatial.cKDTree(voxels * self.steps) if len(voxels) else None


def _around(places: np.ndarray) -> np.ndarray:
    """Return some places and all that touch them."""
    ndim = places.shape[1]
    low, high = places.min(axis=0) - 1, places.max(axis=0) + 2
    if len(places) * 3**ndim > np.prod(high - low):
        mask = np.zeros(high - low, bool)
        mask[tuple((places - low).T)] = True
        return np.argwhere(ndimage.binary_dilation(mask, np.ones((3,) * ndim, bool))) + low
    offsets = np.stack(np.meshgrid(*[(-1, 0, 1)] * ndim, indexing="ij"), axis=-1)
    return (places[:, None] + offsets.reshape(-1, ndim)).reshape(-1, ndim)


def _boxes(labels: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """Return the box around each label but 0."""
    if labels.dtype.kind == "b" or (labels.min() >= 0 and labels.max() <= _FEW):
        found = ndimage.find_objects(labels.astype(np.int32))
        return {value: box for value, box in enumerate(found, start=1) if box is not None}
    names, inverse = np.unique(labels, return_inverse=True)
    found = ndimage.find_objects(inverse.reshape(labels.shape).astype(np.int32) + 1)
    return {int(name): box for name, box in zip(names, found, strict=True) if name != 0}
