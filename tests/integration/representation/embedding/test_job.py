"""The embedding job: every row embedded or quarantined, never done twice, never mixed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from adray import kinds
from adray.data.schema import CREATIVES, EMBEDDINGS, IMAGE
from adray.errors import ConfigError, DataError
from adray.ranking.catalogue import build_catalogue
from adray.representation.embedding.provenance import read_provenance
from adray.representation.encoders.factory import load_encoder
from adray.representation.reading import creatives_from_arrow

ROOT = Path(__file__).parents[4]
TINY = {"kind": "resnet", "image_size": 32, "depths": [1], "widths": [8]}


def png(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def creatives(images: list[bytes | None], copies: list[str] | None = None) -> pa.Table:
    rows = len(images)
    return pa.table(
        {
            "creative_id": [f"c{i:04d}" for i in range(rows)],
            "sku_id": [f"s{i // 3}" for i in range(rows)],
            "image": pa.array([None if data is None else {"bytes": data, "path": None} for data in images], IMAGE),
            "copy": pa.array(copies or [f"copy {i}" for i in range(rows)]),
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("creatives") / "creatives.parquet"
    pq.write_table(creatives([png(i) for i in range(50)]), path, row_group_size=30)
    return path


def config_file(folder: Path, source: Path, **changes) -> Path:
    values = {
        "kind": "embedding",
        "name": "e",
        "runs_dir": str(folder),
        "data": {"creatives": str(source)},
        "encoder": TINY,
        "job": {"chunk_rows": 8, "batch_rows": 4, "threads": 1},
        **changes,
    }
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def embed(path: Path, *overrides: str) -> dict:
    return kinds.perform(kinds.load_job(path, overrides), "embed")[1]


def read(folder: Path) -> pa.Table:
    return pyarrow.dataset.dataset(folder / "e" / "embeddings").to_table().sort_by("creative_id")


def test_vectors_are_the_encoders_own(tmp_path, table):
    report = embed(config_file(tmp_path, table))
    rows = read(tmp_path)
    encoder = load_encoder(tmp_path / "e" / "encoder")
    expected, _ = creatives_from_arrow(pq.read_table(table), at_least=256)
    vectors = encoder(encoder.prepare(expected)).detach().numpy()
    assert rows["creative_id"].to_pylist() == list(expected.creative_ids)
    assert rows["sku_id"].to_pylist() == list(expected.sku_ids)
    np.testing.assert_allclose(np.stack(rows["vector"].to_pylist()).astype(np.float32), vectors, atol=1e-3)
    metrics = report["metrics"]
    assert metrics["representation/embed/rows"] == 50
    assert all(metrics[f"representation/embed/{stage}_rows_per_s"] > 0 for stage in ("read", "decode", "prepare", "forward", "write"))


def test_the_table_has_the_declared_columns_and_the_ranker_reads_it(tmp_path, table):
    embed(config_file(tmp_path, table), "dim=5")
    rows = read(tmp_path)
    declared = pa.schema([*EMBEDDINGS.required, *EMBEDDINGS.optional])
    assert {field.name: field.type for field in rows.schema} == {field.name: field.type for field in declared}
    assert set(rows["dim"].to_pylist()) == {5}
    np.testing.assert_allclose(np.linalg.norm(np.stack(rows["vector"].to_pylist()).astype(np.float64), axis=1), 1, atol=2e-3)
    catalogue = build_catalogue(str(table), tmp_path / "catalogue", str(tmp_path / "e" / "embeddings"))
    assert catalogue.content.shape == (50, 5)
    assert (np.abs(catalogue.content.astype(np.float32)).sum(1) > 0).all()


def test_resuming_skips_what_is_done_and_does_the_rest(tmp_path, table):
    path = config_file(tmp_path, table)
    embed(path)
    whole, folder = read(tmp_path), tmp_path / "e"
    assert embed(path, "resume=true")["metrics"]["representation/embed/rows_new"] == 0
    done = sorted((folder / "done").iterdir())
    done[0].unlink()
    (folder / "embeddings" / ".part-left.partial").write_bytes(b"half")
    untouched = {p.name: p.stat().st_mtime_ns for p in (folder / "embeddings").glob("*.parquet") if p.stem != f"part-{done[0].stem}"}
    report = embed(path, "resume=true")
    assert 0 < report["metrics"]["representation/embed/rows_new"] <= 8
    assert report["metrics"]["representation/embed/rows"] == 50
    assert {name: (folder / "embeddings" / name).stat().st_mtime_ns for name in untouched} == untouched
    assert not list((folder / "embeddings").glob(".part*"))
    assert read(tmp_path).equals(whole)


def test_new_files_of_a_folder_are_added_and_old_ones_that_are_gone_are_dropped(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    rows = creatives([png(i) for i in range(12)])
    pq.write_table(rows.slice(0, 4), source / "b.parquet")
    pq.write_table(rows.slice(4, 4), source / "c.parquet")
    path = config_file(tmp_path / "runs", source)
    embed(path)
    pq.write_table(rows.slice(8, 4), source / "a.parquet")
    (source / "c.parquet").unlink()
    assert embed(path, "resume=true")["metrics"]["representation/embed/rows_new"] == 4
    assert read(tmp_path / "runs")["creative_id"].to_pylist() == [f"c{i:04d}" for i in (0, 1, 2, 3, 8, 9, 10, 11)]


SLOW = """
import sys
from adray import kinds
from adray.representation.embedding import worker

real = worker.EmbedWorker.embed

def embed(self, item):
    result = real(self, item)
    print("item", flush=True)
    if len(list(self._job.parts.done.iterdir())) == 3:
        sys.stdin.read()  # held here until the test kills this process
    return result

worker.EmbedWorker.embed = embed
kinds.perform(kinds.load_job(sys.argv[1]), "embed")
"""


def test_a_killed_job_goes_on_with_the_same_result(tmp_path, table):
    straight = config_file(tmp_path / "straight", table)
    embed(straight)
    killed = config_file(tmp_path / "killed", table)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SLOW, str(killed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    seen, until = 0, time.monotonic() + 120
    while seen < 3 and time.monotonic() < until:
        seen += process.stdout.readline() == "item\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list((tmp_path / "killed" / "e" / "done").iterdir())) == 3
    report = embed(killed, "resume=true")
    assert 0 < report["metrics"]["representation/embed/rows_new"] < 50
    assert read(tmp_path / "killed").equals(read(tmp_path / "straight"))


@pytest.mark.parametrize(
    ("change", "field"), [("encoder.image_size=48", "encoder"), ("job.at_least=null", "transform"), ("dim=6", "dim"), ("seed=1", "encoder")]
)
def test_another_version_does_not_join_a_table(tmp_path, table, change, field):
    path = config_file(tmp_path, table)
    embed(path)
    before = read(tmp_path)
    with pytest.raises(DataError, match=rf"holds vectors of {field} .*, and {field} .* is asked for") as caught:
        embed(path, "resume=true", change)
    assert "\n" not in str(caught.value)
    assert read(tmp_path).equals(before)


def test_a_table_of_two_versions_is_refused_in_one_line(tmp_path, table):
    for name, seed in (("one", 0), ("two", 1)):
        embed(config_file(tmp_path / name, table, seed=seed))
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("one", "two"):
        pq.write_table(read(tmp_path / name), mixed / f"{name}.parquet")
    assert read_provenance(str(tmp_path / "one" / "e" / "embeddings")).encoder
    with pytest.raises(DataError, match=r"mixes vectors of encoder \w{12}\.\.\. and encoder \w{12}\.\.\.") as caught:
        read_provenance(str(mixed))
    assert "\n" not in str(caught.value)


def test_too_many_losses_stop_the_job_and_name_the_first(tmp_path):
    source = tmp_path / "bad.parquet"
    pq.write_table(creatives([png(i) if i % 2 else b"no picture" for i in range(20)]), source)
    with pytest.raises(DataError, match="cannot be used, limit 1.00%; first c0000: image: 10 bytes that are no known picture"):
        embed(config_file(tmp_path / "runs", source))


def test_an_id_twice_is_refused(tmp_path):
    source = tmp_path / "twice.parquet"
    rows = creatives([png(i) for i in range(6)])
    pq.write_table(pa.concat_tables([rows, rows.slice(2, 1)]), source)
    with pytest.raises(DataError, match="creative_id 'c0002' occurs twice"):
        embed(config_file(tmp_path / "runs", source))


def test_both_an_encoder_and_an_artifact_are_refused(tmp_path, table):
    with pytest.raises(ConfigError, match="'encoder' and 'artifact' are both given"):
        kinds.load_job(config_file(tmp_path, table, artifact="somewhere"))


def test_a_folder_of_pictures_is_embedded(tmp_path):
    (tmp_path / "shop" / "sku-1").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "shop" / "sku-1" / f"{i}.png").write_bytes(png(i))
    embed(config_file(tmp_path / "runs", tmp_path / "shop"))
    rows = read(tmp_path / "runs")
    assert rows["creative_id"].to_pylist() == ["sku-1/0", "sku-1/1", "sku-1/2"]
    assert set(rows["sku_id"].to_pylist()) == {"sku-1"}


def test_an_artifact_gives_the_vectors_that_its_config_gave(tmp_path, table):
    embed(config_file(tmp_path / "one", table))
    second = config_file(tmp_path / "two", table, artifact=str(tmp_path / "one" / "e" / "encoder"))
    values = yaml.safe_load(second.read_text())
    del values["encoder"]
    second.write_text(yaml.safe_dump(values))
    embed(second)
    assert read(tmp_path / "two").equals(read(tmp_path / "one"))


def picture_bytes(kind: str, picture: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def broken_inputs() -> dict[str, tuple[bytes | None, str]]:
    jpeg = picture_bytes("JPEG", Image.effect_noise((200, 150), 80).convert("RGB"))
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "green", "blue")]
    return {
        "truncated JPEG": (jpeg[: len(jpeg) // 3], "half a picture"),
        "1x1": (picture_bytes("PNG", Image.new("RGB", (1, 1), "red")), "dot"),
        "empty copy": (png(1), ""),
        "CMYK": (picture_bytes("JPEG", Image.new("CMYK", (80, 60), (0, 200, 200, 10))), "print"),
        "animated WebP": (picture_bytes("WEBP", frames[0], save_all=True, append_images=frames[1:]), "moves"),
        "20,000 px": (picture_bytes("PNG", Image.new("1", (20_000, 300))), "long banner"),
        "20,000 x 20,000 px": (picture_bytes("PNG", Image.new("1", (20_000, 20_000))), "a bomb"),
        "right to left": (png(2), "تخفيضات كبيرة ‏50% على كل شيء"),
        "emoji": (png(3), "🔥👨‍👩‍👧‍👦 SALE \U0001f6cd️" * 50),
        "nothing": (None, " "),
    }


@pytest.mark.parametrize("encoder", [TINY, {"kind": "dual_tower"}], ids=["resnet", "dual_tower"])
def test_broken_input_is_embedded_or_quarantined_with_its_reason(tmp_path, encoder):
    cases = broken_inputs()
    rows = creatives([data for data, _ in cases.values()], [copy for _, copy in cases.values()])
    rows = rows.set_column(0, "creative_id", pa.array(list(cases)))
    source = tmp_path / "broken.parquet"
    pq.write_table(rows.cast(pa.schema([CREATIVES.required.field("creative_id"), *list(rows.schema)[1:]])), source)
    embed(config_file(tmp_path / "runs", source, encoder=encoder), "data.quarantine_limit=0.9")
    kept = set(read(tmp_path / "runs")["creative_id"].to_pylist())
    lost = {row["key"]: row["reason"] for row in pyarrow.dataset.dataset(tmp_path / "runs" / "e" / "quarantine").to_table().to_pylist()}
    assert set(lost) == {"truncated JPEG", "20,000 x 20,000 px", "nothing"}
    assert kept == set(cases) - set(lost)
    assert "pixels, more than 67108864" in lost["20,000 x 20,000 px"]
    assert lost["nothing"] == "neither a picture nor copy"


def test_a_row_that_the_encoder_cannot_take_is_lost_alone(tmp_path, monkeypatch):
    from adray.representation.encoders.resnet import Resnet

    real = Resnet.prepare

    def prepare(self, some):
        if "copy 5" in some.copies:
            raise ArithmeticError("five is odd")
        return real(self, some)

    monkeypatch.setattr(Resnet, "prepare", prepare)
    source = tmp_path / "rows.parquet"
    pq.write_table(creatives([png(i) for i in range(10)]), source)
    report = embed(config_file(tmp_path / "runs", source), "data.quarantine_limit=0.2")
    assert report["metrics"]["representation/embed/quarantined"] == 1
    lost = pyarrow.dataset.dataset(tmp_path / "runs" / "e" / "quarantine").to_table().to_pylist()
    assert [(row["key"], row["reason"]) for row in lost] == [("c0005", "encoder: ArithmeticError: five is odd")]


def test_a_row_without_what_the_encoder_reads_is_lost(tmp_path):
    source = tmp_path / "rows.parquet"
    pq.write_table(creatives([png(0), None, png(2)]), source)
    with pytest.raises(DataError, match="first c0001: encoder: "):
        embed(config_file(tmp_path / "runs", source, encoder={"kind": "dual_tower", "modalities": "image"}), "data.quarantine_limit=0")
