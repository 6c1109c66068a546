"""The catalog over every table: manifests commit once, windows change one at a time, progress only moves forward."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import pytest

from tesseract.config.cache import Configs
from tesseract.config.dataset import decode_dataset
from tesseract.config.manager import apply, rollback
from tesseract.config.schema import parse
from tesseract.errors import ConditionFailed, ConfigError, DamagedError, UnknownDataset
from tesseract.model import Applied, Manifest, Window
from tesseract.storage.base import Backend
from tesseract.storage.catalog import Catalog, Progress
from tesseract.storage.decoded import Manifests
from tesseract.storage.keys import config_object
from tesseract.storage.memory import MemoryObjects, MemoryTable
from tesseract.storage.metered import Meter, metered

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
    pk = "catalog/manifests/manifest#plant#raw#m"
    names = [info.key.partition("-")[0] for info in catalog.objects.list("catalog/manifests/")]
    assert names == [f"{pk}/v000000000001", f"{pk}/v000000000001.json"]  # the manifest, and the copy that every commit leaves


def test_an_unchanged_manifest_is_asked_for_but_not_fetched_or_decoded_again(table):
    meter = Meter()
    backend = metered(Backend(table, table, table, MemoryObjects()), meter)
    writer, reader = Catalog(table, backend.objects), Catalog(backend.catalog, backend.objects)
    for count in (1, 4000, 2):  # in the item, in the bucket, in the item again
        applied = tuple(Applied(f"window/{index:05}", index) for index in range(count))
        written = writer.commit("plant", "raw", "m", lambda old, own=applied: msgspec.structs.replace(old, applied=own), NOW)
        before = meter.read()
        first, second = (reader.manifest("plant", "raw", "m") for _ in range(2))
        assert first == written
        assert first is second
        reads = meter.read()
        assert reads.dynamodb_requests - before.dynamodb_requests == 2
        assert reads.s3_requests - before.s3_requests == (count == 4000)
    item = next(table.query("manifest#plant#raw#m", reverse=True, limit=1))
    table.put({**item, "body": "{"})
    with pytest.raises(DamagedError, match="does not decode"):
        reader.manifest("plant", "raw", "m")


def test_decoded_manifests_are_kept_within_bounds():
    kept = Manifests(1000)
    items = [
        {"pk": str(place), "sk": "v", "body": msgspec.json.encode(Manifest("d", "raw", "m" * 300)).decode()} for place in range(4)
    ]
    found = [kept.get(item["pk"], item, MemoryObjects()) for item in items]
    again = [kept.get(item["pk"], item, MemoryObjects()) for item in items[::-1]]
    assert [one is other for one, other in zip(found[::-1], again, strict=True)] == [True, True, False, False]


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
    assert apply(catalog, changed, NOW, "ann@laptop").verdict == "compatible"
    assert configs.get("plant").version == 1
    assert configs.get("plant", at_least=2).version == 2
    assert configs.before(configs.get("plant")).buffer_ttl_hours == 168
    with pytest.raises(UnknownDataset, match="known datasets: plant"):
        configs.get("plan")
    refused = parse(CONFIG.replace("machine", "device"))["plant"]
    with pytest.raises(ConfigError, match="group_by: machine → device is refused"):
        apply(catalog, refused, NOW)
    assert rollback(catalog, "plant", 1, NOW).dataset.version == 3
    assert [(version.version, version.buffer_ttl_hours) for version in catalog.versions("plant")] == [(1, 168), (2, 48), (3, 168)]
    assert catalog.dataset("plant", 2).applied_by == "ann@laptop"
    assert [dataset.version for dataset in catalog.datasets()] == [3]


def test_of_eight_who_apply_at_once_every_version_is_one_persons(catalog):
    apply(catalog, parse(CONFIG)["plant"], NOW)

    def change(hours):
        wanted = parse(CONFIG.replace("time_field", f"buffer_ttl_hours: {hours}, time_field"))["plant"]
        try:
            return apply(catalog, wanted, NOW, f"{hours}").dataset
        except ConfigError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(change, range(1, 9)))
    done = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert done
    assert all("at the same time" in outcome for outcome in outcomes if isinstance(outcome, str))
    assert sorted(done, key=lambda dataset: dataset.version) == catalog.versions("plant")[1:]
    newest = decode_dataset(catalog.objects.get(config_object("plant")))
    assert newest == catalog.dataset("plant")


def test_configurations_are_published_to_the_bucket(objects):
    catalog = Catalog(MemoryTable(), objects)
    apply(catalog, parse(CONFIG)["plant"], NOW)
    apply(catalog, parse(CONFIG.replace("time_field", "description: x, time_field"))["plant"], NOW)
    assert [info.key for info in objects.list("config/")] == [
        "config/plant.json", "config/plant/v000000000001.json", "config/plant/v000000000002.json"
    ]  # fmt: skip
    assert decode_dataset(objects.get(config_object("plant"))) == catalog.dataset("plant")
    assert decode_dataset(objects.get("config/plant/v000000000001.json")) == catalog.dataset("plant", 1)
