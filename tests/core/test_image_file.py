"""What a record names as an image: a path, or a file URI with encoded characters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ommatidia.core.errors import DataError
from ommatidia.core.image_file import image_file, path_of


@pytest.mark.parametrize("name", ["a b.jpg", "100%.jpg", "é#?.jpg", "a%20b.jpg", "plain.jpg", "日本.png"])
def test_a_uri_leads_to_the_file_that_it_encodes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert image_file(Path("elsewhere"), path.as_uri()) == path
    assert image_file(Path("elsewhere"), path.as_uri().replace("file://", "file://localhost")) == path
    assert image_file(Path("elsewhere"), path.as_uri().replace("file://", "file:")) == path
    assert image_file(tmp_path, name) == path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("file://images/a.jpg", "images/a.jpg"), ("file:///images/a%20b.jpg", "/images/a b.jpg"),
        ("file://localhost/a", "/a"), ("file://localhosts/a", "localhosts/a"), ("a%20b.jpg", "a%20b.jpg"),
        ("files/a.jpg", "files/a.jpg"), ("file:///%zz", "/%zz"),
    ],
)  # fmt: skip
def test_paths(name: str, path: str) -> None:
    assert path_of(name) == path


@given(st.text())
def test_any_name_is_a_file_or_refused(name: str) -> None:
    with pytest.raises(DataError) as caught:
        image_file(Path("/no such folder"), f"file:///no such folder/{name}")
    assert "\n" not in str(caught.value)
