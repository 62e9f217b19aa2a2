"""The page on data names every option and dataset; its recipe is read as it stands."""

import tomllib
from dataclasses import fields

import pytest

from tests.source import ROOT
from vlv_core.builtin import ParquetConfig, WebdatasetConfig
from vlv_core.config import convert
from vlv_core.data.filters import Filters
from vlv_core.plugins import load_plugins

PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("config", [WebdatasetConfig, ParquetConfig, Filters])
def test_every_option_is_on_the_page(config: type) -> None:
    absent = [item.name for item in fields(config) if f"`{item.name}`" not in PAGE]
    assert not absent


def test_every_dataset_is_on_the_page() -> None:
    names = load_plugins(third_party=False).names("dataset")
    assert {"folder", "jsonl", "webdataset", "parquet"} <= set(names)
    assert all(f"| `{name}` |" in PAGE for name in names)


def test_the_pages_table_is_a_config() -> None:
    table = tomllib.loads(PAGE.split("```toml\n")[1].split("```")[0])["stage2"]["data"]
    assert table.pop("dataset") == "webdataset"
    config = convert(WebdatasetConfig, table, "data")
    assert config.filters == Filters(512, 0.5, 2.0, 0.5) and config.caption == "json:caption"
