"""`vlv serve` as a process, and its words without one."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.core import tiny_folder
from tests.core.serving.test_serving_pictures import turned
from tests.core.serving.toy_server import PATIENCE_S, chat, data_url, until
from vlv_core.cli import app
from vlv_core.cli.serve import read_key
from vlv_core.console import run
from vlv_core.errors import UsageError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder.make(tmp_path_factory.mktemp("serve") / "tiny")


TOY = """
import sys, time
from tests.core.serving.toy_server import toy
from vlv_core import loading
from vlv_core.cli import main
loading.load = lambda *_, **__: toy(trouble=lambda view: HANGS and view.any() and time.sleep(1000))
main()
"""


@contextmanager
def server(
    *arguments: str, program: tuple[str, ...] = ("-m", "vlv_core"), **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process and its address."""
    process = subprocess.Popen(
        [sys.executable, *program, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        match = re.fullmatch(r"serving (?:tiny|toy) at (http://127\.0\.0\.1:\d+)\n", line)
        assert match, line + process.communicate()[1]
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()


def toy_server(*arguments: str, hangs: bool = False, **environment: str) -> Any:
    """The same of the toy, which needs no torch; it may hang at every picture."""
    program = ("-c", TOY.replace("HANGS", str(hangs)))
    return server(*arguments, program=program, **environment)


def ask(url: str, body: dict[str, Any], **headers: str) -> Any:
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def metrics(url: str) -> bytes:
    with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE_S) as response:
        text: bytes = response.read()
    return text


def test_it_says_what_caption_says(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned(6))
    with server("--model", str(folder)) as (_, url):
        answer = ask(url, {**chat(url=data_url(path.read_bytes(), "image/jpeg")), "model": "tiny"})
    said = CliRunner().invoke(app, ["caption", str(path), "--model", str(folder)])
    assert said.output.splitlines()[0].split("\t")[1] == answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    with toy_server() as (process, url):
        assert ask(url, chat())["model"] == "toy"
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and out == ""
    assert f"curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' -d @-" in err
    assert "what it has seen: made-up words" in err
    assert re.search(r"^chatcmpl-\w+ 200 ok: \d+ ms, \d+ bytes, queued ", err, re.MULTILINE)
    assert f"{number.name}: finishing what was begun; once more ends at once" in err
    assert err.endswith("stopped\n") and "Traceback" not in err


def test_a_model_that_hangs_does_not_keep_the_process() -> None:
    with toy_server("--grace-s=0.5", hangs=True) as (process, url):
        with pytest.raises(urllib.error.HTTPError, match="503"), ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, url, chat())
            until(lambda: b"vlv_images_total 1.0" in metrics(url))
            process.terminate()
            answer.result(PATIENCE_S)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "Traceback" not in err
    assert "requests were cut off after 0.5 s of grace" in err


def test_a_second_signal_ends_at_once() -> None:
    with toy_server("--grace-s=1000", hangs=True) as (process, url):
        said = process.stderr
        assert said
        with pytest.raises(OSError, match=r"closed|reset"), ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, url, chat())
            until(lambda: b"vlv_images_total 1.0" in metrics(url))
            process.terminate()
            until(lambda: "stopping: " in said.readline())
            process.send_signal(signal.SIGINT)
            answer.result(PATIENCE_S)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGINT


def test_the_curl_line_of_the_banner_works(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(turned(1))
    with toy_server(VLV_API_KEY="sesame") as (process, url):
        assert process.stderr
        lines = [process.stderr.readline() for _ in range(6)]
        command = "".join(lines[2:])
        assert "Bearer $VLV_API_KEY" in command and "sesame" not in command
        said = subprocess.run(
            ["bash", "-c", re.sub("^  ", "", command, flags=re.MULTILINE)],
            cwd=tmp_path,
            env={**os.environ, "VLV_API_KEY": "sesame"},
            capture_output=True,
            check=True,
            timeout=PATIENCE_S,
        )
        assert json.loads(said.stdout)["object"] == "chat.completion"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(url, chat())


def test_where_the_key_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLV_API_KEY", raising=False)
    assert read_key(None) is None
    monkeypatch.setenv("VLV_API_KEY", "")
    assert read_key(None) is None
    monkeypatch.setenv("VLV_API_KEY", "from the environment")
    assert read_key(None) == "from the environment"
    file = tmp_path / "key"
    file.write_text("from the file\n")
    assert read_key(file) == "from the file"
    with pytest.raises(UsageError, match=r"cannot read the API key in '.*': No such file"):
        read_key(tmp_path / "absent")
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"cannot read the API key in '.*': not ASCII"):
        read_key(file)


def test_no_argument_holds_the_key() -> None:
    said = CliRunner().invoke(app, ["serve", "--help"]).output
    assert "--api-key-file" in said and not re.search(r"--api-key\s", said)
    assert "vlv serve --model out/ --dtype int8" in said


def test_wrong_usage_is_found_before_a_model_is_loaded(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(app, name="vlv", args=["serve", "--max-batch", "0"]) == 2
    assert "error: max_batch is 0, but must be at least 1" in capfd.readouterr().err
    assert run(app, name="vlv", args=["serve", "--model", "absent", "--port", "0"]) == 2
    assert "no model folder and no bundled model named 'absent'" in capfd.readouterr().err


@pytest.mark.parametrize("library", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_library_is_named_with_its_extra(library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from vlv_core.cli import main; main()"
    said = subprocess.run(
        [sys.executable, "-c", code, "serve"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 2
    assert f"error: {library} is not installed" in said.stderr
    assert "hint: pip install 'vlv[serve]' supplies it" in said.stderr


def test_help_needs_no_library_of_the_extra() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('starlette', 'uvicorn', 'torch')));"
        "from vlv_core.cli import main; sys.argv[1:] = ['serve', '--help']; main()"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Caption pictures over HTTP" in said.stdout
