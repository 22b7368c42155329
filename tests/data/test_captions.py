"""Captions: one an image, the scene's own words, the same images as the task's questions."""

from __future__ import annotations

import pytest

from ommatidia.core.errors import ConfigError
from ommatidia.core.types import ImagePart
from ommatidia.data import DrawnCaptions, DrawnRelations


def test_a_caption_is_the_scene_in_words() -> None:
    captions, drawn = DrawnCaptions(scenes="relations", pictures=6).open(), DrawnRelations(pictures=6).open()
    assert len(captions) == 6
    for index in range(6):
        sample = captions[index]
        assert sample.messages[0].parts[0] == ImagePart(0)
        assert sample.answer.lower() == drawn.scene(index).describe().lower()  # type: ignore[attr-defined]
        assert sample.answer[0].isupper()
        assert sample.images[0].open().size == (128, 128)


def test_only_drawn_tasks_have_captions() -> None:
    with pytest.raises(ConfigError, match="relations"):
        DrawnCaptions(scenes="relation")
    with pytest.raises(ConfigError, match="unknown drawn task 'easy_vqa'"):
        DrawnCaptions(scenes="easy_vqa")
