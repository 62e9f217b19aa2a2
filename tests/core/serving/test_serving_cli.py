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


@contextmanager
def server(*arguments: str, **environment: str) -> Iterator[tuple[Any, str]]:
    """A process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vlv_core", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        match = re.fullmatch(r"serving tiny at (http://127\.0\.0\.1:\d+)\n", line)
        assert match, line + (process.communicate()[1] if process.poll() is not None else "")
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_what_caption_says_and_stops_cleanly(
    number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned(6))
    with server("--model", str(folder)) as (process, url):
        answer = ask(url, {**chat(url=data_url(path.read_bytes(), "image/jpeg")), "model": "tiny"})
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and out == ""
    assert f"curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' -d @-" in err
    assert "what it has seen: random numbers alone" in err
    assert re.search(r"^chatcmpl-\w+ 200 ok: \d+ ms, \d+ bytes, queued ", err, re.MULTILINE)
    assert f"{number.name}: finishing what was begun; once more ends at once" in err
    assert err.endswith("stopped\n") and "Traceback" not in err
    said = CliRunner().invoke(app, ["caption", str(path), "--model", str(folder)])
    assert said.output.splitlines()[0].split("\t")[1] == answer["choices"][0]["message"]["content"]


HANGS = """
import sys, time
from tests.core.serving.toy_server import toy
from vlv_core import loading
from vlv_core.cli import main
loading.load = lambda *_, **__: toy(trouble=lambda view: view.any() and time.sleep(1000))
main()
"""


def test_a_model_that_hangs_does_not_keep_the_process() -> None:
    command = [sys.executable, "-c", HANGS, "serve", "--port=0", "--grace-s=0.5"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        with pytest.raises(urllib.error.HTTPError, match="503"), ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, url, chat())
            until(lambda: b"vlv_images_total 1.0" in metrics(url))
            process.terminate()
            answer.result(PATIENCE_S)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "Traceback" not in err
    assert "requests were cut off after 0.5 s of grace" in err


def test_a_second_signal_ends_at_once() -> None:
    command = [sys.executable, "-c", HANGS, "serve", "--port=0", "--grace-s=1000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout and process.stderr
        url = process.stdout.readline().split()[-1]
        with pytest.raises(OSError, match=r"closed|reset"), ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, url, chat())
            until(lambda: b"vlv_images_total 1.0" in metrics(url))
            process.terminate()
            until(lambda: "stopping: " in process.stderr.readline())
            process.send_signal(signal.SIGINT)
            answer.result(PATIENCE_S)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGINT


def test_the_curl_line_of_the_banner_works(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(turned(1))
    with server("--model", str(folder), VLV_API_KEY="sesame") as (process, url):
        assert process.stderr
        lines = [process.stderr.readline() for _ in range(6)]
        command = "".join(lines[2:])
        assert "Bearer $VLV_API_KEY" in command and "sesame" not in command
        shell = ["bash", "-c", re.sub("^  ", "", command, flags=re.MULTILINE)]
        said = subprocess.run(
            shell,
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
