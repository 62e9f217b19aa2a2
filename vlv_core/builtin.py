"""What the core itself offers, by the same door as everyone: the entry point `core` of vlv."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vlv_core.data.filters import Filters
from vlv_core.hookspecs import hookimpl
from vlv_core.specs import BottleneckSpec, ConnectorSpec, DatasetSpec, OpenerSpec


@dataclass(frozen=True)
class QueryConfig:
    """The query transformer."""

    num_queries: int = 77
    """K, caption embeddings per picture"""
    width: int = 0
    """width of the transformer; 0 takes the encoder's token width"""
    depth: int = 2
    """blocks of self-attention, cross-attention and MLP"""
    heads: int = 8
    """attention heads; they divide the width"""


@dataclass(frozen=True)
class MlpConfig:
    """The MLP from context to prefix."""

    hidden: int = 0
    """width between the layers; 0 takes the head's width"""
    depth: int = 2
    """linear layers"""


@dataclass(frozen=True)
class FolderConfig:
    """Pictures of a folder, without captions."""

    path: str
    """folder; a relative one starts at the recipe's folder"""
    recursive: bool = True
    """whether folders below count"""


@dataclass(frozen=True)
class JsonlConfig:
    """Pictures named by the lines of a JSON Lines file, with captions where a line has one."""

    path: str
    """file; a relative one starts at the recipe's folder"""
    images: str | None = None
    """folder where relative picture paths start; None takes the file's own folder"""


@dataclass(frozen=True)
class WebdatasetConfig:
    """Samples of tar shards, as WebDataset and img2dataset write them."""

    shards: str
    """files, such as "laion/{00000..00041}.tar" or "shards/*.tar"; relative names start at the
    recipe's folder; plain tar, not compressed"""
    pictures: tuple[str, ...] = ("jpg", "jpeg", "png", "webp")
    """endings of picture members, the preferred first"""
    caption: str = ""
    """ending of the caption's member such as "txt", or "json:FIELD"; "" for none, as in stage 1;
    samples without the named one are left out"""
    index: str = ""
    """file that keeps where samples lie; "" for one in .vlv-index beside the recipe"""
    filters: Filters = field(default_factory=Filters)
    """by fields of the .json member"""


@dataclass(frozen=True)
class ParquetConfig:
    """Rows of Parquet files."""

    files: str
    """files, such as "data/{000..099}.parquet" or "data/*.parquet"; relative names start at the
    recipe's folder"""
    image: str = ""
    """column of encoded pictures: bytes, or a structure of bytes and path"""
    path: str = ""
    """column of picture files' names, instead of `image`"""
    folder: str | None = None
    """where picture files' names start, and what they cannot leave; None takes the recipe's"""
    caption: str = ""
    """column; "" for none, as in stage 1; rows without the named one are left out"""
    cache_mb: int = 512
    """row groups that stay in memory, MB"""
    filters: Filters = field(default_factory=Filters)
    """by columns"""


@hookimpl
def vlv_bottlenecks() -> Iterable[BottleneckSpec]:
    return [
        BottleneckSpec(
            name="query",
            summary="learned queries that read the tokens by causal cross-attention",
            build="vlv_core.bottleneck:build",
            config=QueryConfig,
            requires=("torch",),
            extra="train",
        )
    ]


@hookimpl
def vlv_connectors() -> Iterable[ConnectorSpec]:
    return [
        ConnectorSpec(
            name="mlp",
            summary="an MLP from each context vector to one prefix vector",
            build="vlv_core.connector:build",
            config=MlpConfig,
            requires=("torch",),
            extra="train",
        )
    ]


@hookimpl
def vlv_datasets() -> Iterable[DatasetSpec]:
    return [
        DatasetSpec(
            name="folder",
            summary="the pictures of a folder, without captions",
            open="vlv_core.data.folder:open_folder",
            config=FolderConfig,
        ),
        DatasetSpec(
            name="jsonl",
            summary="pictures and captions from a JSON Lines file",
            open="vlv_core.data.jsonl:open_jsonl",
            config=JsonlConfig,
        ),
        DatasetSpec(
            name="webdataset",
            summary="pictures and captions from tar shards, filtered as in the paper",
            open="vlv_core.data.webdataset:open_webdataset",
            config=WebdatasetConfig,
        ),
        DatasetSpec(
            name="parquet",
            summary="pictures and captions from Parquet files, filtered as in the paper",
            open="vlv_core.data.parquet:open_parquet",
            config=ParquetConfig,
            requires=("pyarrow",),
            extra="models",
        ),
    ]


@hookimpl
def vlv_openers() -> Iterable[OpenerSpec]:
    return [
        OpenerSpec(
            name="model",
            summary="a trained model's folder",
            marker="model.toml",
            open="vlv_core.model_folder:open_model",
            requires=("torch",),
            extra="train",
        )
    ]
