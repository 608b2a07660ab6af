"""A batch over tar shards: the items, and results as from plain files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import media
import pytest
from shard_parts import Server, serving, write_shard

from retain.apps.batch.engine import Job, Outcome, Spec
from retain.apps.batch.items import ABSENT, list_items, look
from retain.apps.batch.run import MANIFEST, PARTIAL, BatchOptions, batch
from retain.apps.batch.stores import braces
from retain.apps.batch.tasks import run_task
from retain.apps.batch.work import do
from retain.pipeline.errors import SourceError, UsageError


class Inline:
    """One item after the other, in this process."""

    workers = 1

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield do(run_task, job, self._spec.options)

    def stop(self, drain: bool) -> None: ...


def keys(given: str | Path) -> list[str]:
    return [item.key for item in list_items(str(given))[0]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    good = media.write_video(folder / "good.mp4", 20)
    other = media.write_video(folder / "other.avi", 12, codec="mpeg4")
    cut = media.cut(folder / "cut.mp4", good)
    return {
        "000.json": b'{"ef": 55}',
        "000.mp4": good.read_bytes(),
        "001.avi": other.read_bytes(),
        "002.mp4": cut.read_bytes(),
    }


def test_braces_stand_for_what_webdataset_means_by_them() -> None:
    assert braces("c-{000..002}.tar") == ["c-000.tar", "c-001.tar", "c-002.tar"]
    assert braces("{a,b}-{8..10}.tar")[2::3] == ["a-10.tar", "b-10.tar"]
    assert braces("{8..010}.tar")[0] == "8.tar"
    assert braces("s3://${BUCKET}/{2..1}.tar") == ["s3://${BUCKET}/2.tar", "s3://${BUCKET}/1.tar"]
    assert braces("{x}.tar") == ["{x}.tar"]
    expand = pytest.importorskip("webdataset.shardlists").expand_urls
    for one in ("c-{08..10}.tar", "{a,b}/{0..3}-{x,y}.tar", "plain.tar", "{98..101}.tar"):
        assert braces(one) == expand(one), one
    for many in ("{0..9999999}", "{000..999}{000..999}{0..9}"):
        with pytest.raises(UsageError, match="stands for"):
            braces(many)


def test_shards_are_named_in_every_way_a_list_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: dict[str, bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_shard(tmp_path / f"c-{number:02d}.tar", clips.items())
    inside = [f"c-{n:02d}.tar::{name}" for n in range(2) for name in clips if "json" not in name]
    assert keys("c-{00..01}.tar") == keys("c-*.tar") == keys(".") == inside
    assert keys("c-00.tar") == inside[:3]
    Path("list.txt").write_text("c-{00..01}.tar\nc-00.tar::000.mp4\nc-00.tar\n")
    items, twice = list_items("list.txt")
    assert [item.key for item in items] == inside
    assert twice == 4
    for item in items:
        assert look(item.path) == (item.size, item.mtime_ns)
    assert items[0].size == len(clips["000.mp4"])


def test_a_shard_written_anew_is_noticed_and_a_missing_one_is_an_item(
    tmp_path: Path, clips: dict[str, bytes]
) -> None:
    path = write_shard(tmp_path / "c.tar", clips.items())
    before = list_items(str(path))[0]
    path.write_bytes(path.read_bytes())
    after = list_items(str(path))[0]
    assert [item.key for item in before] == [item.key for item in after]
    assert all(a.mtime_ns != b.mtime_ns for a, b in zip(before, after, strict=True))
    write_shard(path, [("z.txt", bytes(3000)), *clips.items()])
    for item in before:
        assert look(item.path)[0] != ABSENT, "it has changed, and is not gone"
        assert look(item.path) != (item.size, item.mtime_ns)
    path.unlink()
    assert look(before[0].path) == (ABSENT, 0)
    assert [i.size for i in list_items(str(tmp_path / "{c,d}.tar"))[0]] == [ABSENT, ABSENT]


def results(out: Path) -> dict[str, dict[str, bytes]]:
    """What an item is called by itself -> its files that tell no times, places or commands."""
    found = {}
    for line in (out / "items.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["state"] == "done":
            found[row["key"].rpartition("::")[2]] = {
                path.name: path.read_bytes()
                for path in (out / row["out"]).iterdir()
                if path.name not in ("summary.json", "report.html")
            }
    return found


def test_a_batch_over_a_shard_does_what_it_does_to_plain_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: dict[str, bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain").mkdir()
    for name, data in clips.items():
        Path("plain", name).write_bytes(data)
    write_shard(tmp_path / "c-0.tar", clips.items())
    whole = write_shard(tmp_path / "c-1.tar", [("9.mp4", clips["000.mp4"])]).read_bytes()
    Path("c-1.tar").write_bytes(whole[:700])
    words = {"encoder": "pixels"}
    plain = BatchOptions(given="plain", task="watch", settings=words, out=Path("p"), jobs=1)
    shards = BatchOptions(given="c-{0..1}.tar", task="watch", settings=words, out=Path("s"), jobs=1)
    assert batch(plain, Inline) == batch(shards, Inline) == PARTIAL
    rows = [json.loads(line) for line in Path("s/items.jsonl").read_text().splitlines()]
    told = {row["key"]: (row["state"], row["cause"]) for row in rows}
    assert told == {
        "c-0.tar::000.mp4": ("done", ""),
        "c-0.tar::001.avi": ("done", ""),
        "c-0.tar::002.mp4": ("quarantined", "broken"),
        "c-1.tar": ("quarantined", "broken"),
    }
    assert rows[0]["facts"]["sample"] == {"ef": 55}
    assert "sample" not in rows[1]["facts"]
    found = results(Path("s"))
    assert set(found) == {"000.mp4", "001.avi"}
    assert found == results(Path("p"))
    assert "memory.safetensors" in found["000.mp4"]


@pytest.fixture
def server(clips: dict[str, bytes], tmp_path: Path) -> object:
    with serving() as web:
        web.files["c.tar"] = write_shard(tmp_path / "c.tar", clips.items()).read_bytes()
        yield web


def test_a_batch_over_a_shard_on_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIP_PASSWORD", "a b")
    address = server.at("c.tar", "auth").replace("//", "//viewer:${CLIP_PASSWORD}@")
    options = BatchOptions(
        given=address, task="watch", settings={"encoder": "pixels"}, out=Path("s"), jobs=1
    )
    assert batch(options, Inline) == PARTIAL
    rows = [json.loads(line) for line in Path("s/items.jsonl").read_text().splitlines()]
    assert [(row["state"], row["cause"]) for row in rows] == [
        ("done", ""),
        ("done", ""),
        ("quarantined", "broken"),
    ]
    assert rows[0]["facts"]["sample"] == {"ef": 55}
    for path in Path("s").rglob("*"):
        if path.is_file():
            assert b"a b@" not in path.read_bytes()
            assert b"a%20b" not in path.read_bytes(), path
    assert (Path("s") / MANIFEST).exists()


def test_secrets_in_a_list_are_refused_and_silence_ends_the_batch(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for secret in (
        "https://me:pw1234@host/c.tar",
        "https://host/c.tar?X-Amz-Signature=0a1b2c",
        "https://pw1234@host/c.tar",
        "https://me${A}pw1234@host/c.tar",
    ):
        (tmp_path / "list.txt").write_text(secret + "\n")
        with pytest.raises(UsageError, match="credentials") as caught:
            list_items(str(tmp_path / "list.txt"))
        assert "pw1234" not in str(caught.value)
        assert "0a1b2c" not in str(caught.value)
    monkeypatch.setattr("retain.apps.batch.stores._TIMEOUT_S", 0.3)
    with pytest.raises(SourceError, match="gave no answer"):
        list_items(server.at("c.tar", "silent"))
    assert keys(server.at("none.tar")) == [server.at("none.tar")]


def test_objects_of_a_store_are_items_whose_changes_are_noticed(clips: dict[str, bytes]) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe({"/b/x/1.mp4": clips["000.mp4"], "/b/x/2.txt": b"no", "/b/y.avi": clips["001.avi"]})
    try:
        assert keys("memory://b/") == ["memory://b/x/1.mp4", "memory://b/y.avi"]
        assert keys("memory://b/*.avi") == ["memory://b/y.avi"]
        before = list_items("memory://b/y.avi")[0][0]
        assert before == list_items("memory://b/y.avi")[0][0]
        store.pipe("/b/y.avi", clips["002.mp4"])
        assert before != list_items("memory://b/y.avi")[0][0]
        with pytest.raises(UsageError, match=r"pip install 'retain\[remote\]' s3fs"):
            keys("s3://bucket/c.tar")
    finally:
        store.rm("/b", recursive=True)
