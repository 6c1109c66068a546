"""What every bucket does."""

import pytest

from tesseract.errors import NotFoundError


def test_an_object_comes_back_whole_and_in_ranges(objects):
    objects.put("a/b=ü/c.bin", b"0123456789")
    assert objects.get("a/b=ü/c.bin") == b"0123456789"
    assert objects.get("a/b=ü/c.bin", 2, 3) == b"234"
    assert objects.get("a/b=ü/c.bin", 8) == b"89"
    assert objects.get("a/b=ü/c.bin", 8, 0) == b""
    assert objects.get("a/b=ü/c.bin", 8, 9) == b"89"
    assert objects.get("a/b=ü/c.bin", 10, 1) == b""
    assert objects.get("a/b=ü/c.bin", 99) == b""
    assert objects.open("a/b=ü/c.bin").read() == b"0123456789"


def test_a_file_goes_up_and_comes_down_as_it_is(objects, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(bytes(range(256)) * 10_000)
    objects.upload("a/file", there)
    objects.download("a/file", back)
    assert back.read_bytes() == there.read_bytes()
    assert [info.bytes for info in objects.list("a/")] == [2_560_000]


def test_an_object_that_is_not_there_is_not_found(objects, tmp_path):
    for read in (objects.get, objects.open, lambda key: objects.download(key, tmp_path / "x")):
        with pytest.raises(NotFoundError, match="nobody"):
            read("nobody")


def test_a_listing_is_in_key_order_below_its_prefix(objects):
    for key in ("x/2", "x/1", "y/1", "x/10"):
        objects.put(key, key.encode())
    assert [(info.key, info.bytes) for info in objects.list("x/")] == [("x/1", 3), ("x/10", 4), ("x/2", 3)]


def test_deleting_twice_is_no_error(objects):
    objects.put("a", b"")
    objects.delete("a")
    objects.delete("a")
    assert list(objects.list("a")) == []


def test_putting_again_replaces_the_whole_object(objects):
    objects.put("a", b"0123456789")
    objects.put("a", b"01")
    assert objects.get("a") == b"01"
    assert [info.bytes for info in objects.list("a")] == [2]
