"""A human trunk out of analytic shapes: where the organs of the phantoms lie and how they vary.

World: LPS millimetres, z = 0 in the middle of the chest, +x towards the patient's left, +y towards the back. The trunk
reaches from the thighs (z = -520) to the neck (z = 260). Sizes follow an average adult; `vary` says by how much a
random person differs from that.
"""

from dataclasses import dataclass, field

import numpy as np

from .phantoms_shapes import Part, Shape, column, common, either, ellipsoid, frame_of, grown, half_space, tube, without

BODY, LEFT_LUNG, RIGHT_LUNG, HEART, LIVER, VERTEBRAE, BONE, LESION = range(1, 9)

# z, y of the centre, half depth, half width (mm) of the skin, the rib cage's inside and the belly's inside.
_SKIN = (
    (-560, 12, 105, 172), (-460, 12, 112, 176), (-380, 12, 115, 178), (-330, 10, 112, 172), (-250, 8, 108, 155),
    (-150, 8, 112, 156), (-100, 8, 116, 160), (50, 8, 118, 166), (120, 10, 108, 168), (150, 16, 88, 150),
    (175, 22, 70, 105), (200, 26, 60, 68), (280, 26, 58, 58),
)  # fmt: skip
_CAGE = (
    (-135, 2, 84, 132), (-100, 0, 90, 138), (-40, 0, 92, 138), (20, 0, 88, 132), (60, 2, 80, 120),
    (90, 10, 66, 100), (112, 20, 48, 72), (128, 28, 26, 40),
)  # fmt: skip
_BELLY = (
    (-440, 10, 50, 65), (-380, 8, 72, 85), (-320, 0, 84, 112), (-250, -6, 80, 122), (-150, -4, 86, 126),
    (-100, -2, 88, 130), (-40, 0, 86, 128), (0, 0, 60, 90),
)  # fmt: skip
# z, y of the middle of the vertebral bodies.
_SPINE = np.array(
    [(-395, 100), (-345, 88), (-300, 68), (-260, 54), (-200, 50), (-120, 58), (-60, 67), (0, 70), (60, 66), (120, 58),
     (180, 48), (250, 46)], float
)  # fmt: skip
_LEVELS = np.cumsum([-282, 35, 34, 33, 32, 28, 26, 25, 24, 23, 22, 22, 21, 21, 20, 20, 20, 18, 17, 17, 17, 17])
_FIRST_THORACIC = 16  # index of T1 in _LEVELS; index 0 is L5


@dataclass
class Person:
    """Tissue values, sizes and choices of one phantom; `Anatomy` builds the shapes from it.

    Lengths in mm, values in HU. `vary` from 0 (the average person) to 1.
    """

    rng: np.random.Generator
    vary: float = 0.3
    fat: float = 14.0
    blood: float = 45.0
    heart_scale: float = 1.0
    muscle_hu: float = 52.0
    fat_hu: float = -98.0
    lung_hu: float = -860.0
    liver_hu: float = 62.0
    bone_hu: float = 560.0
    marrow_hu: float = 190.0
    arms: str = "none"  # "up", "down" or "none"
    table: bool = False
    bowel_gas: float = 0.25
    oral: float = 0.0  # HU that contrast agent adds to what stomach and bowel hold
    lesions: int = 1
    pelvis: bool = True
    size: np.ndarray = field(default_factory=lambda: np.ones(3))

    def about(self, value: float, share: float = 0.15) -> float:
        """Return `value` changed at random by up to `share` times `vary`."""
        return float(value * (1 + self.vary * share * self.rng.uniform(-1, 1)))

    def near(self, *point: float, mm: float = 8.0) -> np.ndarray:
        """Return a point (z, y, x) moved at random by up to `mm` times `vary` along each axis."""
        return np.asarray(point, float) + self.vary * mm * self.rng.uniform(-1, 1, 3)


class Anatomy:
    """The parts of one person, in painting order.

    ``parts(heart_scale)`` may be asked several times: only the heart changes, as in a heart that beats.
    """

    def __init__(self, person: Person):
        self.person = person
        self.skin = column(_scaled(_SKIN, person), 2.3)
        self.muscle = column(_scaled(_SKIN, person, -person.fat), 2.3)
        self.cage = column(_scaled(_CAGE, person), 2.2)
        self.belly = column(_scaled(_BELLY, person), 2.2)
        self.domes = self._domes()
        self.heart_centre = person.near(-14, -26, 26, mm=9)
        self.heart_axis = frame_of(person.near(-0.55, -0.5, 0.72, mm=0.12))  # towards the apex: down, front, left
        self.before = [*self._outside(), *self._trunk(), *self._lungs(), *self._vessels()]
        self.after = [*self._belly_organs(), *self._bones()]

    def parts(self, heart_scale: float | None = None) -> list[Part]:
        """Return all parts, with the heart larger or smaller by a factor."""
        return [*self.before, *self._heart(heart_scale or self.person.heart_scale), *self.after]

    # Soft parts -----------------------------------------------------------------------------------------------------

    def _domes(self) -> tuple[Shape, Shape]:
        p = self.person
        right = ellipsoid(p.near(-125, 0, -68, mm=14), (p.about(100), p.about(98), p.about(84)))
        left = ellipsoid(p.near(-132, 0, 66, mm=14), (p.about(94), p.about(96), p.about(86)))
        return right, left

    def _outside(self) -> list[Part]:
        p, parts = self.person, []
        if p.table:
            top = 8 + 118 + p.about(6, 0.5)
            plate = ellipsoid((-100, top + 150, 0), (4000, 160, 330))
            shell = without(plate, grown(plate, -p.about(7, 0.4)))
            parts += [Part(plate, p.about(-880, 0.1), 0), Part(shell, p.about(-300, 1.5), 0)]
        for side in (-1, 1):
            if p.arms == "none":
                continue
            shoulder = p.near(138, 8, side * 158, mm=6)
            elbow = p.near(330, 15, side * 140, mm=40) if p.arms == "up" else p.near(-130, 20, side * 225, mm=12)
            hand = elbow + ((60, -20, -side * 90) if p.arms == "up" else (-260, -20, 5 * side))
            for radius, hu, label in ((44, p.fat_hu, BODY), (37, p.muscle_hu, BODY), (12, p.bone_hu, BONE)):
                parts.append(Part(tube([shoulder, elbow, hand], p.about(radius, 0.2)), hu, label, 6))
            parts.append(Part(tube([shoulder, elbow], 6), p.marrow_hu, BONE))
        return parts

    def _trunk(self) -> list[Part]:
        p = self.person
        parts = [Part(self.skin, p.fat_hu, BODY, 7)]
        legs = [tube([p.near(-470, 15, s * 92, mm=5), (-900, 15, s * 98)], p.about(72)) for s in (-1, 1)]
        parts += [Part(grown(leg, p.fat), p.fat_hu, BODY, 7) for leg in legs]
        parts.append(Part(common(self.muscle, half_space(0, -440, below=False)), p.muscle_hu, BODY, 6, fine=True))
        parts += [Part(leg, p.muscle_hu, BODY, 8, fine=True) for leg in legs]
        for side in (-1, 1):
            shoulder = ellipsoid(p.near(126, 12, side * 140, mm=6), (44, 42, 46))
            parts += [Part(grown(shoulder, 9), p.fat_hu, BODY), Part(shoulder, p.muscle_hu, BODY, 8)]
            if p.rng.random() < 0.4 * p.vary:
                breast = ellipsoid(p.near(-10, -112, side * 75, mm=20), (p.about(60), p.about(40, 1), p.about(58)))
                parts += [Part(breast, p.fat_hu, BODY, 20), Part(grown(breast, -18), p.about(0, 1), BODY, 30)]
        # Fat between muscle layers at the back and the flanks, so that muscle is not one grey block.
        for side in (-1, 1):
            sheet = tube([p.near(-300, 60, side * 125), p.near(60, 62, side * 130)], 6)
            parts.append(Part(sheet, p.fat_hu, BODY))
        parts.append(Part(self.belly, p.fat_hu + 8, BODY, 14, fine=True))
        for side in (-1, 1):
            psoas = [p.near(-150, 58, side * 36, mm=3), p.near(-270, 44, side * 52, mm=4), p.near(-380, -18, side * 84)]
            parts.append(Part(tube(psoas, p.about(20, 0.4)), p.muscle_hu, BODY, 6, fine=True))
        parts.append(Part(common(self.cage, half_space(0, -70, below=False)), p.about(10, 3), BODY, 20))
        return parts

    def _lungs(self) -> list[Part]:
        p, parts = self.person, []
        inside = grown(self.cage, -p.about(6, 0.5))
        middle = column(
            [(-160, 0, 105, p.about(34)), (-20, 0, 98, p.about(32)), (60, 6, 88, p.about(29)), (125, 24, 60, 26)], 2.5
        )
        spine = tube([(z, y + 4, 0) for z, y in _SPINE], 28)
        for side, label, dome in ((1, LEFT_LUNG, self.domes[1]), (-1, RIGHT_LUNG, self.domes[0])):
            half = half_space(2, 0, below=side < 0)
            lung = common(without(inside, middle, spine, dome), half, half_space(0, -128, below=False))
            hu = p.about(p.lung_hu, 0.05)
            parts.append(Part(lung, hu, label, abs(hu + 1000) * 0.12))
            parts += self._lung_vessels(lung, side)
            for _ in range(p.lesions if side == -1 else max(0, p.lesions - 1)):
                centre = p.near(25, 12, side * 82, mm=45)
                radius = p.about(13, 0.5)
                lesion = common(ellipsoid(centre, radius * np.array([1, 0.9, 1.15])), lung)
                parts.append(Part(lesion, p.about(35, 0.5), LESION, 12, fine=True))
        return parts

    def _lung_vessels(self, lung: Shape, side: int) -> list[Part]:
        """Branches from the hilum outwards; the truth stays lung."""
        p, parts = self.person, []
        hilum = np.array([15, 22, side * 36.0])
        for _ in range(10):
            way = p.rng.standard_normal(3) * (1, 0.75, 0.35) + (0, 0, side * 0.8)
            way *= p.rng.uniform(45, 85) / np.linalg.norm(way)
            middle = hilum + 0.5 * way + p.rng.normal(0, 5, 3)
            ends = [hilum + way + p.rng.normal(0, 18, 3) for _ in range(2)]
            parts.append(Part(common(tube([hilum, middle], 3.2), lung), p.blood))
            parts += [Part(common(tube([middle, end], 1.9), lung), p.blood) for end in ends]
        return parts

    def _heart(self, scale: float) -> list[Part]:
        p = self.person
        centre, axes = self.heart_centre, self.heart_axis
        heart = ellipsoid(centre, scale * np.array([63, 46, 45]), axes)
        forward, across = axes[0], np.array([0, 0.35, -1.0])
        blood = p.blood
        parts = [
            Part(grown(heart, 5 + 3 * p.vary), p.fat_hu + 20, BODY),
            Part(heart, p.muscle_hu + 0.35 * max(0.0, blood - 50), HEART, 4),
        ]
        chambers = (
            (centre + scale * (12 * forward - 14 * across), (36, 21, 20), blood),  # left ventricle
            (centre + scale * (8 * forward + 19 * across), (38, 15, 19), 0.9 * blood),  # right ventricle
            (centre + scale * (-36 * forward - 12 * across + (4, 4, 0)), (18, 22, 22), blood),  # left atrium
            (centre + scale * (-30 * forward + 22 * across), (18, 20, 17), 0.9 * blood),  # right atrium
        )
        for where, radii, hu in chambers:
            room = common(ellipsoid(where, scale * np.array(radii), axes), grown(heart, -4))
            parts.append(Part(room, hu, HEART, 3))
        return parts

    def _vessels(self) -> list[Part]:
        p, blood = self.person, self.person.blood
        root = np.add(self.heart_centre, (32, 4, -18))
        top = p.near(88, 16, 10, mm=6)
        arch = [root, p.near(66, -14, -22, mm=5), top, p.near(70, 44, 24, mm=4)]
        down = [p.near(z, float(np.interp(z, *_SPINE.T)) - 22, x, mm=3) for z, x in ((30, 26), (-60, 24), (-120, 12))]
        belly = [(z, float(np.interp(z, *_SPINE.T)) - 28, 6) for z in (-160, -210, -255)]
        parts = [Part(tube([*arch, *down, *belly], p.about(12.5)), blood, BODY)]
        for side in (-1, 1):
            leg = [belly[-1], p.near(-320, 30, side * 40), p.near(-410, -25, side * 70), (-600, -25, side * 80)]
            parts.append(Part(tube(leg, p.about(6.5)), 0.9 * blood, BODY))
        parts += [
            Part(tube([np.add(root, (8, -6, 14)), p.near(48, 4, 16, mm=4), p.near(44, 18, 34, mm=4)], 12), blood, BODY),
            Part(
                tube([p.near(130, -5, -32), p.near(60, 0, -36), np.add(self.heart_centre, (20, 12, -50))], 9),
                blood,
                BODY,
            ),
            Part(tube([p.near(-60, 20, -24), (-160, 28, -16), (-260, 30, -14)], 11), 0.8 * blood + 6, BODY),
            Part(tube([(260, 20, 0), p.near(120, 18, 0, mm=3), p.near(50, 24, 0, mm=3)], 11), p.fat_hu / 3, BODY),
            Part(tube([(260, 20, 0), p.near(120, 18, 0, mm=3), p.near(50, 24, 0, mm=3)], p.about(8.5)), -985, BODY),
        ]
        for side in (-1, 1):
            parts.append(Part(tube([(50, 24, 0), p.near(26, 30, side * 34, mm=4)], 6), -970, BODY))
        gullet = tube([(240, 36, 2), (60, 44, 6), (-60, 36, 8)], 8)
        parts.append(Part(gullet, p.muscle_hu - 15, BODY))
        if p.rng.random() < 0.4 * p.vary:
            parts.append(Part(tube([p.near(100, 42, 5, mm=4), p.near(60, 44, 6, mm=4)], 4), -800, BODY))
        return parts

    def _belly_organs(self) -> list[Part]:
        p = self.person
        below = [grown(dome, -3) for dome in self.domes]
        room = common(grown(self.belly, -p.about(5, 0.5)), either(*below, half_space(0, -128)))
        liver = common(ellipsoid(p.near(-112, 2, -62, mm=12), (p.about(104), p.about(92), p.about(80))), room)
        lobe = common(ellipsoid(p.near(-76, -38, 10, mm=12), (p.about(34), p.about(40), p.about(62))), room)
        extra = 0.45 * max(0.0, p.blood - 50)
        parts = [
            Part(common(dome, self.cage, half_space(0, -125, below=False)), p.fat_hu + 20, BODY, 10)
            for dome in self.domes
        ]
        parts += [
            Part(ellipsoid(p.near(-98, 42, 102, mm=9), (p.about(50), p.about(38), p.about(24))), 50 + extra, BODY, 4),
            Part(common(liver, self.belly), p.liver_hu + extra, LIVER, 4),
            Part(common(lobe, self.belly), p.liver_hu + extra, LIVER, 4),
        ]
        for side in (-1, 1):
            kidney = ellipsoid(p.near(-165 - 8 * (side < 0), 48, side * 62, mm=10), (p.about(56), 26, 29))
            parts += [Part(kidney, 34 + 1.6 * extra, BODY, 5), Part(grown(kidney, -14), 10 + 1.2 * extra, BODY)]
        stomach = ellipsoid(p.near(-94, -22, 66, mm=14), (p.about(42, 0.5), p.about(44, 0.4), p.about(44, 0.5)))
        parts.append(Part(stomach, p.about(30, 0.8) + p.oral, BODY, 8))
        level = stomach.low[1] + p.rng.uniform(0.15, 0.6) * (stomach.high[1] - stomach.low[1])
        if p.rng.random() < 0.85:
            parts.append(Part(common(grown(stomach, -4), half_space(1, level)), -960, BODY))
        bladder = ellipsoid(p.near(-392, -20, 0, mm=8), (p.about(38, 0.5), p.about(36, 0.4), p.about(42, 0.5)))
        return [*parts, Part(bladder, p.about(6, 2), BODY), *self._bowel(room)]

    def _bowel(self, room: Shape) -> list[Part]:
        """Small-bowel loops, and the colon as a chain of pouches along its frame, some filled with gas or stool."""
        p, parts = self.person, []
        for _ in range(14):
            start = np.array([p.rng.uniform(-370, -190), p.rng.uniform(-62, 14), p.rng.uniform(-85, 85)])
            path = start + np.cumsum(p.rng.normal(0, 17, (4, 3)) * (1, 0.6, 1), axis=0)
            loop = common(tube(path, p.rng.uniform(8, 14)), room)
            parts.append(Part(loop, p.rng.uniform(15, 60) + p.oral * p.rng.random(), BODY, 12, fine=True))
            if p.rng.random() < p.bowel_gas:
                gas = common(grown(loop, -3), half_space(1, float(path[:, 1].mean()) + p.rng.uniform(-8, 4)))
                parts.append(Part(gas, p.rng.uniform(-980, -800), BODY))
        corners = [(-330, 0, -100), (-190, 5, -108), (-150, -48, -60), (-178, -62, 0), (-140, -40, 62), (-125, 10, 102),
                   (-200, 30, 108), (-310, 20, 98), (-345, -10, 50), (-370, 40, 20), (-400, 68, 0)]  # fmt: skip
        corners = np.array([p.near(*corner, mm=16) for corner in corners])
        lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))]
        for at in np.arange(0, lengths[-1], 26.0):
            centre = np.array([np.interp(at, lengths, corners[:, a]) for a in range(3)]) + p.rng.normal(0, 3, 3)
            radius = p.rng.uniform(14, 27)
            pouch = common(ellipsoid(centre, radius * p.rng.uniform(0.8, 1.2, 3)), room)
            kind = p.rng.random()
            stool = p.rng.uniform(-150, 50) + p.oral * p.rng.random()
            parts.append(Part(pouch, 40 if kind < p.bowel_gas else stool, BODY, 40 if kind > 0.5 else 10, fine=True))
            if kind < 2 * p.bowel_gas:
                gas = grown(pouch, -2.5)
                if kind > p.bowel_gas:
                    gas = common(gas, half_space(1, float(centre[1]) + p.rng.uniform(-8, 6)))
                parts.append(Part(gas, p.rng.uniform(-990, -880), BODY))
        return parts

    # Bones ----------------------------------------------------------------------------------------------------------

    def _bones(self) -> list[Part]:
        parts = [*self._spine(), *self._ribs(), *self._shoulders()]
        return [*parts, *self._pelvis()] if self.person.pelvis else parts

    def _bone(self, shape: Shape, label: int = BONE, shell: float = 2.2, texture: float = 40.0) -> list[Part]:
        p = self.person
        return [
            Part(shape, p.about(p.bone_hu, 0.2), label),
            Part(grown(shape, -shell), p.about(p.marrow_hu, 0.2), label, texture, fine=True),
        ]

    def _spine(self) -> list[Part]:
        p, parts = self.person, []
        line = tube([(z, y, 0) for z, y in _SPINE[2:]], 13)
        parts.append(Part(line, p.about(75, 0.3), BODY))  # discs
        canal = tube([(z, y + 27, 0) for z, y in _SPINE[1:]], 7.5)
        for index, z in enumerate(_LEVELS):
            y = float(np.interp(z, *_SPINE.T)) + p.vary * p.rng.uniform(-1, 1)
            pitch = _LEVELS[min(index + 1, len(_LEVELS) - 1)] - _LEVELS[min(index, len(_LEVELS) - 2)]
            grow = float(np.interp(z, (-282, -120, 120, 230), (1.0, 0.86, 0.68, 0.55))) * p.about(1, 0.08)
            half = 0.5 * pitch - p.about(3.2, 0.3)
            body = column([(z - half, y, 18 * grow, 25 * grow), (z, y, 16.5 * grow, 23 * grow),
                           (z + half, y, 18 * grow, 25 * grow)], 2.4)  # fmt: skip
            parts += self._bone(body, VERTEBRAE)
            arch = column([(z - 0.4 * pitch, y + 27 * grow + 3, 15 * grow, 17 * grow),
                           (z + 0.3 * pitch, y + 26 * grow + 3, 14 * grow, 16 * grow)], 2)  # fmt: skip
            process = [(z, y + 40 * grow, 0), (z - 0.55 * pitch, y + 62 * grow, 0)]
            pieces = [arch, tube(process, 4.2 * max(grow, 0.7))]
            pieces += [tube([(z, y + 24 * grow, s * 14 * grow), (z, y + 30 * grow, s * 40 * grow)], 4.5 * grow)
                       for s in (-1, 1)]  # fmt: skip
            parts += [Part(piece, p.about(0.75 * p.bone_hu, 0.2), VERTEBRAE, 60, fine=True) for piece in pieces]
        return [*parts, Part(canal, 30, BODY)]

    def _ribs(self) -> list[Part]:
        p, parts = self.person, []
        heights, centres, depths, widths = np.array(_scaled(_CAGE, p), float).T
        thick = p.about(5.2, 0.25)
        for rib in range(12):
            start = _LEVELS[_FIRST_THORACIC - rib]
            reach = {0: 2.4, 10: 1.9, 11: 1.35}.get(rib, 2.55)
            drop = p.about(np.interp(rib, (0, 3, 9, 11), (34, 78, 92, 70)), 0.2)
            angle = np.linspace(0.24, reach, 14)
            z = start - drop * (1 - np.cos(angle)) / 2
            at = [np.interp(z, heights, row) for row in (centres, depths, widths)]
            y, x = at[0] + (at[1] + thick * 0.6) * np.cos(angle), (at[2] + thick * 0.6) * np.sin(angle)
            for side in (-1, 1):
                bent = tube(np.stack([z, y, side * x], axis=1), thick)
                parts += self._bone(bent, BONE, shell=1.8)
                if rib < 10:
                    end = np.array([z[-1], y[-1], side * x[-1]])
                    middle = np.array([min(z[-1] + 18, 70.0 - 9 * rib), y[-1] - 5, side * 18.0])
                    parts.append(Part(tube([end, middle], thick), p.about(95, 0.5), BODY))
        front = float(np.interp(20, heights, centres) - np.interp(20, heights, depths))
        breastbone = ellipsoid((20, front - 3, 0), (78, 8, 19), frame_of((1, -0.22, 0)))
        return parts + self._bone(breastbone, BONE, shell=2.0)

    def _shoulders(self) -> list[Part]:
        p, parts = self.person, []
        for side in (-1, 1):
            parts += self._bone(ellipsoid(p.near(138, 8, side * 152, mm=5), (24, 24, 24)))
            key = [p.near(112, -52, side * 22, mm=4), p.near(130, -38, side * 75, mm=5), p.near(150, -8, side * 132)]
            parts += self._bone(tube(key, p.about(6)))
            blade = frame_of((0.15, 0.62, side * 0.78))
            parts += self._bone(ellipsoid(p.near(70, 74, side * 104, mm=6), (4.5, 36, 60), blade), shell=1.6)
            parts += self._bone(tube([p.near(118, 84, side * 92), p.near(142, 30, side * 150)], 6))
        return parts

    def _pelvis(self) -> list[Part]:
        p = self.person
        parts = self._bone(ellipsoid((-345, 84, 0), (62, 22, 50), frame_of((1, -0.28, 0))))
        for side in (-1, 1):
            wing = np.array([(0.42, 0.62, -side * 0.66), (0.12, -0.72, side * 0.68), (0.9, 0.0, side * 0.43)])
            wing = np.linalg.qr(wing.T)[0].T
            hip = p.near(-408, 14, side * 92, mm=4)
            plate = ellipsoid(p.near(-322, 32, side * 92, mm=5), (6.5, 66, 62), wing)
            bones = [plate, tube([(-330, 62, side * 60), np.add(hip, (22, 6, -side * 8))], 15)]
            bones.append(without(ellipsoid(hip, (36, 36, 36)), grown(half_space(0, hip[0] - 20), 0)))
            bones.append(
                tube([np.add(hip, (-8, -20, -side * 18)), p.near(-418, -34, side * 34, mm=3), (-428, -34, side * 9)], 9)
            )
            bones.append(tube([np.add(hip, (-14, 22, -side * 14)), (-462, 50, side * 62), (-455, 5, side * 40),
                               (-428, -30, side * 12)], 10))  # fmt: skip
            for bone in bones:
                parts += self._bone(bone)
            parts.append(Part(ellipsoid(hip, (27, 27, 27)), 60, BODY))  # joint
            knob = np.add(hip, (-28, 12, side * 42))
            for bone in (
                ellipsoid(hip, (23.5, 23.5, 23.5)),
                tube([hip, knob], 14),
                tube([knob, (-900, 10, side * 105)], 16),
            ):
                parts += self._bone(bone, shell=3.0)
            if p.rng.random() < 0.08 * p.vary:
                parts.append(Part(tube([hip, knob, np.add(knob, (-40, 0, 0))], 7), p.rng.uniform(1500, 3000), BONE))
        return parts


def _scaled(profile, person: Person, margin: float = 0.0) -> list[tuple[float, float, float, float]]:
    """Return a profile for a person of another depth and width (in `person.size`: z, y, x), moved in by `margin`."""
    _, deep, wide = person.size
    return [(z, y, max(b * deep + margin, 8), max(a * wide + margin, 8)) for z, y, b, a in profile]
