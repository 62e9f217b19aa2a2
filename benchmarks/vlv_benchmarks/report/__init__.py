"""`REPORT.md` and `report.html`, made from a record and its raw samples."""

from pathlib import Path

from vlv_benchmarks.folder import read_record, read_turns
from vlv_benchmarks.report.markdown import markdown
from vlv_benchmarks.report.page import page
from vlv_core.files import write_atomically

MARKDOWN, PAGE = "REPORT.md", "report.html"


def write_report(folder: Path) -> list[Path]:
    """Write both beside `bench.json`. Raises DataError as `read_record` and `read_turns` do."""
    record, turns = read_record(folder), read_turns(folder)
    texts = {folder / MARKDOWN: markdown(record), folder / PAGE: page(record, turns)}
    for path, text in texts.items():
        write_atomically(path, text.encode())
    return list(texts)
