"""How fast the datasets `webdataset` and `parquet` are indexed and read, and what bounds them.

Writes shards of synthetic JPEGs, or takes yours by --shards; reads them as training does: batches
in a shuffled order. Run it where the data lies: `python benchmarks/read_shards.py --help`.
"""

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import numpy as np
from PIL import Image

from vlv_core.builtin import ParquetConfig, WebdatasetConfig
from vlv_core.data.order import indices
from vlv_core.data.parquet import open_parquet
from vlv_core.data.shard_index import key_and_ending
from vlv_core.data.webdataset import open_webdataset
from vlv_core.preprocess import to_view
from vlv_core.specs import View

BATCH = 256
SEED = 0


class Rate(NamedTuple):
    """One line of the table."""

    what: str
    samples: int
    seconds: float
    megabytes: float

    def __str__(self) -> str:
        samples, megabytes = self.samples / self.seconds, self.megabytes / self.seconds
        return f"{self.what:34} {samples:12,.0f} samples/s {megabytes:10,.1f} MB/s"


@click.command()
@click.option("--shards", help="Your own tar shards, a pattern; none are written then.")
@click.option("--samples", default=4000, show_default=True, help="Synthetic samples to write.")
@click.option("--per-shard", default=1000, show_default=True, help="Samples a shard.")
@click.option("--edge", default=512, show_default=True, help="Edge of synthetic pictures, pixels.")
@click.option("--view", default=384, show_default=True, help="Edge of the view, pixels.")
@click.option("--row-group", default=64, show_default=True, help="Rows a Parquet row group.")
def main(
    *, shards: str | None, samples: int, per_shard: int, edge: int, view: int, row_group: int
) -> None:
    """Measure indexing, reading and decoding; print samples/s, MB/s, and what bounds training.

    Files that were just written are in memory still: for a disk's own rate, name shards by --shards
    that are larger than it.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        if shards is None:
            _write(folder, samples, per_shard=per_shard, edge=edge)
        rates = list(_tars(folder, shards or "*.tar", view))
        if shards is None:
            _as_parquet(folder, row_group)
            rates += _parquet(folder)
    for rate in rates:
        click.echo(str(rate))
    _conclude({rate.what: rate.samples / rate.seconds for rate in rates})


def _conclude(rates: dict[str, float]) -> None:
    read, decode = rates["tar: read, shuffled"], rates["decode and resize, one thread"]
    bound = "decoding" if decode < read else "reading"
    click.echo(
        f"bound by {bound}: one thread decodes {decode:,.0f} samples/s, shuffled tars give "
        f"{read:,.0f}; {read / decode:.1f} decoding threads would use one reader up"
    )


def _tars(folder: Path, pattern: str, edge: int) -> Iterator[Rate]:
    config = WebdatasetConfig(shards=pattern, caption="txt", index=str(folder / "index.npz"))
    with _timed() as cold:
        dataset = open_webdataset(config, folder)
    megabytes = dataset.describe()["bytes"] / 1e6
    yield Rate("tar: index, by headers", len(dataset), cold(), megabytes)
    with _timed() as warm:
        open_webdataset(config, folder)
    yield Rate("tar: open again, by the index", len(dataset), warm(), megabytes)
    yield _read("tar: read, shuffled", dataset, megabytes)
    count = min(len(dataset), BATCH)
    batch = dataset.samples(indices(SEED, len(dataset), 0, count).tolist())
    with _timed() as decoding:
        for sample in batch:
            to_view(sample.load(), View(size=edge))
    share = megabytes * count / len(dataset)
    yield Rate("decode and resize, one thread", count, decoding(), share)


def _parquet(folder: Path) -> Iterator[Rate]:
    config = ParquetConfig(files="*.parquet", image="image", caption="text", cache_mb=64)
    with _timed() as opening:
        dataset = open_parquet(config, folder)
    megabytes = sum(path.stat().st_size for path in folder.glob("*.parquet")) / 1e6
    yield Rate("parquet: open and look at captions", len(dataset), opening(), megabytes)
    yield _read("parquet: read, shuffled", dataset, megabytes)


def _read(what: str, dataset: Any, megabytes: float) -> Rate:
    """One epoch, or as much of it as two seconds allow."""
    done = 0
    with _timed() as reading:
        while done < len(dataset) and reading() < 2:
            count = min(BATCH, len(dataset) - done)
            dataset.samples(indices(SEED, len(dataset), done, count).tolist())
            done += count
    return Rate(what, done, reading(), megabytes * done / len(dataset))


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    """Seconds since the block began, until it ended."""
    began, ended = time.perf_counter(), None
    yield lambda: (ended or time.perf_counter()) - began
    ended = time.perf_counter()


def _write(folder: Path, samples: int, *, per_shard: int, edge: int) -> None:
    pictures = [_jpeg(edge, number) for number in range(16)]
    for first in range(0, samples, per_shard):
        with tarfile.open(folder / f"{first // per_shard:05d}.tar", "w") as archive:
            for number in range(first, min(first + per_shard, samples)):
                key = f"{number:09d}"
                facts = f'{{"key": "{key}", "original_width": {edge}, "pwatermark": 0.1}}'
                _add(archive, f"{key}.jpg", pictures[number % len(pictures)])
                _add(archive, f"{key}.json", facts.encode())
                _add(archive, f"{key}.txt", b"a caption of some words")


def _jpeg(edge: int, number: int) -> bytes:
    """Smooth noise, so that it weighs about what a photograph does."""
    noise = np.random.Generator(np.random.Philox(number)).integers(0, 256, (64, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((edge, edge)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _as_parquet(folder: Path, row_group: int) -> None:
    """The same samples, a file a shard."""
    import pyarrow as pa
    from pyarrow import parquet

    for path in sorted(folder.glob("*.tar")):
        columns: dict[str, list[Any]] = {"jpg": [], "txt": []}
        with tarfile.open(path) as archive:
            for member in archive:
                ending = key_and_ending(member.name)[1]
                content = archive.extractfile(member)
                if ending in columns and content is not None:
                    columns[ending].append(content.read())
        table = {"image": columns["jpg"], "text": [text.decode() for text in columns["txt"]]}
        parquet.write_table(pa.table(table), path.with_suffix(".parquet"), row_group_size=row_group)


if __name__ == "__main__":
    main()
