"""The catalog over every table: manifests commit once, windows change one at a time, progress only moves forward."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import pytest

from tesseract.config.manager import Configs, apply
from tesseract.config.schema import parse
from tesseract.errors import ConditionFailed, ConfigError, NotFoundError
from tesseract.model import Applied, Manifest, Window
from tesseract.storage.catalog import Catalog, Progress
from tesseract.storage.memory import MemoryObjects

NOW = datetime(2026, 1, 5, tzinfo=UTC)
CONFIG = "datasets: {plant: {group_by: machine, time_field: at, fields: {a: float}}}"


@pytest.fixture
def catalog(table):
    return Catalog(table, MemoryObjects())


def test_sixteen_writers_to_one_partition_all_commit(catalog):
    def commit(writer):
        def change(old: Manifest) -> Manifest:
            return msgspec.structs.replace(old, applied=(*old.applied, Applied(str(writer), 1)))

        return catalog.commit("plant", "raw", "m", change, NOW)

    with ThreadPoolExecutor(16) as pool:
        versions = [manifest.version for manifest in pool.map(commit, range(16))]
    manifest = catalog.manifest("plant", "raw", "m")
    assert sorted(versions) == list(range(1, 17))
    assert sorted(int(applied.id) for applied in manifest.applied) == list(range(16))
    assert catalog.groups("plant", "raw") == ["m"]


def test_a_large_manifest_spills_to_the_bucket_and_reads_the_same(catalog):
    applied = tuple(Applied(f"window/{index:05}", index) for index in range(4000))
    written = catalog.commit("plant", "raw", "m", lambda old: msgspec.structs.replace(old, applied=applied), NOW)
    assert catalog.manifest("plant", "raw", "m") == written
    assert len(list(catalog.objects.list("catalog/manifests/"))) == 1


def test_a_commit_of_nothing_writes_nothing(catalog):
    assert catalog.commit("plant", "raw", "m", lambda old: None, NOW) is None
    assert catalog.manifest("plant", "raw", "m").version == 0


def test_progress_only_moves_forward(catalog):
    assert catalog.progress() == Progress(0, 0)
    catalog.advance("archived", 20)
    catalog.advance("archived", 10)
    catalog.advance("snapshot", 5)
    assert catalog.progress() == Progress(20, 5)


def test_a_window_is_opened_once_and_changed_by_one_at_a_time(catalog):
    window = Window(start=1_000_000, end=2_000_000, state="exporting")
    catalog.open_window(window)
    with pytest.raises(ConditionFailed):
        catalog.open_window(window)

    def count(_):
        return catalog.change_window(window.id, lambda old: msgspec.structs.replace(old, files=old.files + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert catalog.window(window.id).files == 8
    catalog.finish_file(window.id, "e", "one", 5)
    catalog.finish_file(window.id, "e", "one", 5)
    catalog.finish_file(window.id, "other", "two", 5)
    assert catalog.finished_files(window.id, "e") == {"one": 5}


def test_a_configuration_is_applied_once_and_seen_within_a_minute(catalog):
    plant = parse(CONFIG)["plant"]
    assert apply(catalog, plant, NOW).verdict == "new"
    assert apply(catalog, plant, NOW).verdict == "unchanged"
    now = NOW
    configs = Configs(catalog, lambda: now)
    assert configs.get("plant").version == 1
    changed = parse(CONFIG.replace("time_field", "buffer_ttl_hours: 48, time_field"))["plant"]
    assert apply(catalog, changed, NOW).verdict == "changed"
    assert configs.get("plant").version == 1
    assert configs.get("plant", at_least=2).version == 2
    with pytest.raises(NotFoundError, match="known datasets: plant"):
        configs.get("plan")
    refused = parse(CONFIG.replace("machine", "device"))["plant"]
    with pytest.raises(ConfigError, match="group_by cannot change"):
        apply(catalog, refused, NOW)
    assert catalog.dataset("plant", 1).buffer_ttl_hours == 168
