"""The trunk of `phantoms_anatomy` with the texture of real tissue: what the random phantoms are drawn from.

Fat with strands, muscle with fat between its bundles, mesentery and lungs with vessels, marrow with trabeculae, skin,
clothes and cables, gas below the diaphragm, fluid beside the lung. The truth tells fat from soft tissue, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from .geometry import Grid
from .phantoms_anatomy import _SKIN, _SPINE, BODY, BONE, LEFT_LUNG, LIVER, RIGHT_LUNG, VERTEBRAE, Anatomy, Person
from .phantoms_shapes import (
    Part,
    Shape,
    _box,
    column,
    common,
    coordinates,
    either,
    ellipsoid,
    frame_of,
    grown,
    half_space,
    tube,
)

# Truth beyond the labels of `phantoms_anatomy`.
FAT, SOFT, CONTENT = 9, 10, 11
_FAT_BELOW, _GAS_BELOW = -30.0, -300.0  # HU

Textures = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Woven(Part):
    """A part whose value changes from place to place: ``pattern(textures)`` gives HU, ``textures(name)`` a field."""

    pattern: Callable[[Textures], np.ndarray] | None = None


class DetailedAnatomy(Anatomy):
    """The parts of one person, in painting order, with texture.

    Parameters
    ----------
    person : Person
        Its generator decides about everything that is not given.
    """

    def __init__(self, person: Person):
        rng = person.rng
        self.lean = rng.uniform(0.0, 0.4)  # how much of the muscle is streaked with fat
        self.strands = rng.uniform(0.1, 0.6)  # how dense the strands in fat are
        self.vessels = rng.uniform(0.12, 0.3)  # how thick the small vessels are
        self.gravity = rng.uniform(0, 1.6) if rng.random() < 0.7 else rng.uniform(0, 5)  # HU per mm towards the back
        self.holes = rng.uniform(0, 70) if rng.random() < 0.3 else 0.0  # HU that emphysema takes away
        self.cortex = rng.uniform(0.15, 1.2)  # thickness of the cortex of bones, of the plain one
        self.grain = rng.uniform(0.3, 1.6)  # of the marrow
        super().__init__(person)

    def parts(self, heart_scale: float | None = None) -> list[Part]:
        """Return all parts, textured, with the heart larger or smaller by a factor."""
        return [self._textured(part) for part in super().parts(heart_scale)]

    # Texture --------------------------------------------------------------------------------------------------------

    def _textured(self, part: Part) -> Part:
        p = self.person
        if part.label in (LEFT_LUNG, RIGHT_LUNG):
            return _woven(part, self._lung_pattern(part.hu))
        if part.label == BODY and part.hu == p.muscle_hu:
            return _woven(part, self._streaked(part.hu, p.fat_hu, 0.6 * self.lean))
        if part.label == BODY and part.hu == p.fat_hu:
            return _woven(part, self._streaked(part.hu, 0.6 * p.fat_hu + 0.4 * p.muscle_hu, 0.3 * self.strands))
        if part.label == BODY and part.hu == p.fat_hu + 8:
            return _woven(part, self._mesentery(part.hu))
        return part

    def _streaked(self, hu: float, other: float, width: float) -> Callable[[Textures], np.ndarray]:
        """Return tissue with thin sheets of another one, where two slow fields pass through zero."""

        def pattern(texture: Textures) -> np.ndarray:
            sheet = np.exp(-((texture("sheet") / max(width, 1e-3)) ** 2))
            thin = np.exp(-((texture("medium") / max(0.5 * width, 1e-3)) ** 2))
            return hu + (other - hu) * np.maximum(sheet, 0.4 * thin) + 8 * texture("fine")

        return pattern

    def _mesentery(self, hu: float) -> Callable[[Textures], np.ndarray]:
        p = self.person

        def pattern(texture: Textures) -> np.ndarray:
            vessel = np.exp(-(texture("medium") ** 2 + texture("branch") ** 2) / (1.2 * self.vessels) ** 2)
            return hu + (max(40.0, 0.8 * p.blood) - hu) * vessel + 18 * texture("fine") + 8 * texture("slow")

        return pattern

    def _lung_pattern(self, hu: float) -> Callable[[Textures], np.ndarray]:
        p = self.person

        def pattern(texture: Textures) -> np.ndarray:
            # Small vessels run where two fields are zero at once; they are blurred, so that blood shows only in part.
            vessel = np.exp(-(texture("medium") ** 2 + texture("branch") ** 2) / self.vessels**2)
            twig = np.exp(-(texture("fine") ** 2 + texture("twig") ** 2) / (1.3 * self.vessels) ** 2)
            base = hu + self.gravity * (texture("y") - 5) + 0.1 * (hu + 1000) * texture("slow")
            base = base - self.holes * (texture("slow") > 0.8)
            filled = base + (p.blood - base) * np.maximum(0.75 * vessel, 0.3 * twig)
            return np.clip(filled, -985, None)

        return pattern

    # Parts ----------------------------------------------------------------------------------------------------------

    def _domes(self):
        p = self.person
        right = ellipsoid(p.near(-122, -7, -68, mm=15), (p.about(102), p.about(95, 0.17), p.about(84, 0.17)))
        left = ellipsoid(p.near(-130, -7, 66, mm=15), (p.about(95), p.about(93, 0.17), p.about(85, 0.17)))
        return right, left

    def _outside(self) -> list[Part]:
        """The table of the plain anatomy, and a cushion, a second plate, clothes, cables."""
        p, rng = self.person, self.person.rng
        parts = super()._outside()
        back = 118 * p.size[1] + 8
        first = []
        if rng.random() < 0.4:
            plate = common(half_space(1, back + rng.uniform(2, 40), below=False), half_space(1, back + 300))
            wide = rng.uniform(180, 320)
            plate = common(plate, half_space(2, -wide, below=False), half_space(2, wide))
            first.append(Part(plate, rng.uniform(-985, -800), 0, 10))
            if rng.random() < 0.6:
                top = back + rng.uniform(2, 60)
                board = common(plate, half_space(1, top, below=False), half_space(1, top + rng.uniform(2, 7)))
                first.append(Part(board, rng.uniform(-600, 200), 0))
        if rng.random() < 0.5:
            cloth = grown(self.skin, rng.uniform(3, 14))
            first.append(_woven(Part(cloth, -960, 0), _folds(rng.uniform(-900, -300))))
        for _ in range(rng.integers(1, 5) if rng.random() < 0.3 else 0):
            ends = [(rng.uniform(-300, 150), rng.uniform(-150, 20), rng.uniform(-190, 190)) for _ in range(3)]
            first.append(Part(tube(ends, rng.uniform(0.8, 2.5)), rng.uniform(0, 2500), 0))
        return [*parts[:2], *first, *parts[2:]] if p.table else [*first, *parts]

    def _trunk(self) -> list[Part]:
        """The plain trunk below a skin, its fat unevenly thick."""
        p, rng = self.person, self.person.rng
        shift, rows = rng.uniform(-0.5, 0.5) * p.fat, []
        for z, y, b, a in _SKIN:
            front, side = p.fat * rng.uniform(0.6, 1.5), p.fat * rng.uniform(0.5, 1.3)
            rows.append((z, y + shift, max(b * p.size[1] - front, 8), max(a * p.size[2] - side, 8)))
        self.muscle = column(rows, 2.3)
        self.belly = common(self.belly, grown(self.muscle, -rng.uniform(7, 20)))  # leaves a wall of muscle
        skin = Part(grown(self.skin, rng.uniform(0.5, 2.5)), rng.uniform(-20, 60), BODY)
        return [skin, *super()._trunk()]

    def _lungs(self) -> list[Part]:
        """The plain lungs, with fissures, and fluid or collapsed lung at the back of some."""
        p, rng = self.person, self.person.rng
        parts = super()._lungs()
        for part in [part for part in parts if part.label in (LEFT_LUNG, RIGHT_LUNG)]:
            middle = 0.5 * (part.shape.low + part.shape.high)
            sheet = ellipsoid(middle, (0.7, 150, 120), frame_of(p.near(0.75, -0.6, 0, mm=0.15)))
            parts.append(Part(common(sheet, part.shape), rng.uniform(-400, -100)))
            if rng.random() < 0.12:
                behind = common(part.shape, half_space(1, rng.uniform(20, 75), below=False))
                collapsed = common(behind, half_space(0, rng.uniform(-90, 40)))
                parts.append(Part(collapsed, rng.uniform(0, 40), BODY, 8))
        return parts

    def _belly_organs(self) -> list[Part]:
        """The plain organs, and what contrast agent and gas may do there."""
        p, rng = self.person, self.person.rng
        parts = super()._belly_organs()
        room = common(grown(self.belly, -4), either(*self.domes, half_space(0, -128)))
        for _ in range(rng.integers(1, 5) if rng.random() < 0.6 else 0):
            side = rng.choice((-1, 1), p=(0.35, 0.65))
            centre = (rng.uniform(-200, -60), rng.uniform(-75, -5), side * rng.uniform(20, 110))
            wall = common(ellipsoid(centre, rng.uniform(15, 48, 3), frame_of(rng.normal(size=3))), room)
            parts += [Part(wall, rng.uniform(20, 60), BODY), Part(grown(wall, -2), rng.uniform(-1000, -940), BODY)]
        if rng.random() < 0.15:  # contrast agent that the kidneys have passed on
            full = rng.uniform(150, 900)
            parts += [Part(ellipsoid(p.near(-165, 46, s * 52), rng.uniform(5, 14, 3)), full, BODY) for s in (-1, 1)]
            parts.append(Part(ellipsoid(p.near(-395, -15, 0), rng.uniform(18, 40, 3)), full, BODY))
        for _ in range(rng.integers(1, 6) if rng.random() < 0.35 else 0):  # chalk in the aorta
            at = rng.uniform(-250, 20)
            spot = np.array([at, float(np.interp(at, *_SPINE.T)) - 26, 10]) + rng.normal(0, 8, 3)
            parts.append(Part(ellipsoid(spot, rng.uniform(1.5, 5, 3)), rng.uniform(300, 1000), BODY))
        return parts

    def _bowel(self, room: Shape) -> list[Part]:
        """The plain bowel; what is neither tissue nor fluid nor gas, stool, is known as content."""
        p, rng = self.person, self.person.rng
        # The outline of the muscle alone serves here: it takes a quarter of the time.
        room = common(grown(self.muscle, -10), half_space(0, -100))
        parts = []
        for _ in range(rng.integers(0, 20)):
            start = np.array([rng.uniform(-380, -150), rng.uniform(-75, 25), rng.uniform(-95, 95)])
            loop = common(tube(start + np.cumsum(rng.normal(0, 18, (3, 3)), axis=0), rng.uniform(10, 19)), room)
            parts.append(Part(loop, rng.uniform(5, 60) + p.oral * rng.random(), BODY, 10, fine=True))
        parts += super()._bowel(room)
        return [replace(part, label=CONTENT) if _GAS_BELOW < part.hu < -25 else part for part in parts]

    def _bone(self, shape: Shape, label: int = BONE, shell: float = 2.2, texture: float = 40.0) -> list[Part]:
        """Cortex of changing thickness, marrow from fatty to dense."""
        p, rng = self.person, self.person.rng
        cortex = p.about(p.bone_hu, 0.3)
        # Vertebrae hold much fine bone below a thin cortex; the marrow of others is rather fat.
        marrow = 0.5 * p.marrow_hu + rng.uniform(30, 150) if label == VERTEBRAE else p.marrow_hu + rng.normal(0, 50)
        marrow = min(marrow, cortex)
        inside = grown(shape, -shell * self.cortex * rng.uniform(0.7, 1.3))
        return [Part(shape, cortex, label), Part(inside, marrow, label, self.grain * texture, fine=True)]


def _woven(part: Part, pattern: Callable[[Textures], np.ndarray]) -> Woven:
    return Woven(**{item.name: getattr(part, item.name) for item in fields(Part)}, pattern=pattern)


def _folds(hu: float) -> Callable[[Textures], np.ndarray]:
    """Return cloth that lies in folds: thin sheets of `hu` in air."""
    return lambda texture: -990 + (hu + 990) * np.exp(-((texture("sheet") / 0.15) ** 2))


# Painting ------------------------------------------------------------------------------------------------------------

_LENGTHS = {"slow": 60.0, "sheet": 45.0, "medium": 22.0, "branch": 22.0, "fine": 11.0, "twig": 11.0}  # mm


def smooth_field(rng: np.random.Generator, grid: Grid, length: float) -> np.ndarray:
    """Return a smooth random field (z, y, x), float32, of mean 0 and deviation 1, that changes over about `length` mm.

    Bells on a lattice, one axis after the other: much faster than waves, but bound to the grid.
    """
    step, bases = 0.5 * length, []
    for count, spacing in zip(grid.spatial_shape, grid.spacing, strict=True):
        centres = np.arange(-2, np.ceil((count - 1) * spacing / step) + 3) * step + rng.uniform(0, step)
        away = (np.arange(count)[:, None] * spacing - centres) / (0.6 * step)
        bases.append(np.exp(-0.5 * away**2).astype(np.float32))
    weights = rng.standard_normal([b.shape[1] for b in bases], np.float32)
    field = bases[0] @ weights.reshape(weights.shape[0], -1)
    field = np.matmul(bases[1], field.reshape(-1, *weights.shape[1:])) @ bases[2].T
    # The deviation that such a sum has on average, so that a small grid does not change what a texture means.
    return field / np.float32(np.prod([np.sqrt((b**2).sum(axis=1).mean()) for b in bases]))


def paint(
    parts: Sequence[Part], grid: Grid, rng: np.random.Generator, *, edge: float, bend: float
) -> tuple[np.ndarray, np.ndarray]:
    """Paint parts onto a grid, as `phantoms_shapes.render` does, with the patterns of woven parts.

    Parameters
    ----------
    parts : sequence of Part
        In painting order.
    grid : Grid
        Without frames.
    rng : numpy.random.Generator
        For the textures and the bends.
    edge : float
        Width in mm over which neighbouring values mix, the partial volume.
    bend : float
        Size in mm of a smooth random displacement of all shapes; the truth bends with them.

    Returns
    -------
    image, labels : (z, y, x) arrays
        HU, float32, and the exact label of the centre of every voxel, uint8: those of `phantoms_anatomy`, but fat and
        soft tissue in place of liver and body; body is then only gas and what the bowel holds.
    """
    z, y, x = coordinates(grid, np.float32)
    textures = {name: smooth_field(rng, grid, length) for name, length in _LENGTHS.items()}
    far = np.float32(2 * bend)
    if bend:
        bend = np.float32(bend)
        z, y, x = (
            c + np.clip(bend * smooth_field(rng, grid, 130.0) + 0.3 * bend * smooth_field(rng, grid, 50.0), -far, far)
            for c in (z, y, x)
        )
    textures["y"] = y
    image = np.full(grid.spatial_shape, -1000, np.float32)
    labels = np.zeros(grid.spatial_shape, np.uint8)
    exact = np.full(grid.spatial_shape, -1000, np.float32)  # without the mixing at the edges
    margin = edge + float(far)
    for part in parts:
        box = _box(part.shape, grid, margin)
        if box is None:
            continue
        distance = part.shape.distance(z[box], y[box], x[box])
        share = np.clip(0.5 - distance / np.float32(edge), 0, 1)
        value = _value(part, textures, box)
        image[box] += share * (value - image[box])
        if part.label is not None:
            inside = distance < 0
            labels[box][inside] = part.label
            exact[box][inside] = value if np.isscalar(value) else value[inside]
    return image, _tissues(labels, exact)


def _value(part: Part, textures: dict[str, np.ndarray], box: tuple[slice, ...]) -> float | np.ndarray:
    pattern = getattr(part, "pattern", None)
    if pattern is not None:
        return pattern(lambda name: textures[name][box]).astype(np.float32)
    if part.texture:
        return np.float32(part.hu) + np.float32(part.texture) * textures["fine" if part.fine else "slow"][box]
    return np.float32(part.hu)


def _tissues(labels: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Tell fat from soft tissue and gas within the body; changes and returns `labels`."""
    body = (labels == BODY) | (labels == LIVER)
    labels[body & (exact >= _FAT_BELOW)] = SOFT
    labels[body & (exact < _FAT_BELOW) & (exact >= _GAS_BELOW)] = FAT
    labels[labels == CONTENT] = BODY
    return labels
