"""The pictures of the page, one file each; runs that several of them show stand in a file of their own."""

from graddoctor.explain.picture import Picture
from graddoctor.explain.pictures.cures import CURES
from graddoctor.explain.pictures.dying import DYING
from graddoctor.explain.pictures.edge import EDGE
from graddoctor.explain.pictures.movement import MOVEMENT
from graddoctor.explain.pictures.profile import PROFILE
from graddoctor.explain.pictures.signal import SIGNAL
from graddoctor.explain.pictures.sixteen_bits import SIXTEEN_BITS
from graddoctor.explain.pictures.skips import SKIPS
from graddoctor.explain.pictures.slopes import SLOPES
from graddoctor.explain.pictures.symptom import SYMPTOM
from graddoctor.explain.pictures.through_time import THROUGH_TIME

PICTURES: tuple[Picture, ...] = (
    *(SYMPTOM, PROFILE, SLOPES, EDGE, SIGNAL, MOVEMENT),
    *(THROUGH_TIME, SKIPS, DYING, SIXTEEN_BITS, CURES),
)
"""In the order of the page."""
