"""The API's document, by validators that are not ours, and the server by the document."""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

import pytest
import yaml
from openapi_spec_validator import OpenAPIV30SpecValidator, validate

from hub import Hub, demo
from serving import REPOSITORY, Server

HERE = pathlib.Path(__file__).parent
COMMITTED = REPOSITORY / "openapi" / "openapi.json"


@pytest.fixture(scope="module")
def open_server(tmp_path_factory):
    """Whatever model is named, one answers: else nearly every request would end in 404."""
    hub = Hub({"org/repo": demo("model.rkllm")})
    server = Server(
        tmp_path_factory.mktemp("open"),
        copies={"judge": "type = 'rerank'\n"},
        RKLLAMA_FALLBACK__CHAT="demo",
        RKLLAMA_FALLBACK__EMBED="demo",
        RKLLAMA_FALLBACK__RERANK="judge",
        RKLLAMA_HUB__ENDPOINT=hub.url,
        RKLLAMA_DEBUG="true",
        RUST_LOG="warn",
    )
    yield server
    server.stop()
    hub.stop()


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory):
    server = Server(
        tmp_path_factory.mktemp("guarded"), RKLLAMA_AUTH__KEYS="ada:secret-of-ada", RUST_LOG="warn"
    )
    yield server
    server.stop()


def fetch(server, page):
    with urllib.request.urlopen(f"{server.url}/{page}", timeout=30) as response:
        return response.read()


def test_the_document_is_valid(open_server):
    served = json.loads(fetch(open_server, "openapi.json"))
    validate(served, cls=OpenAPIV30SpecValidator)
    assert served == json.loads(COMMITTED.read_text(encoding="utf-8"))


def test_the_document_in_yaml_says_the_same(open_server):
    served = yaml.safe_load(fetch(open_server, "openapi.yaml"))
    validate(served, cls=OpenAPIV30SpecValidator)
    assert served == json.loads(COMMITTED.read_text(encoding="utf-8"))


def test_a_document_that_is_wrong_is_found_out():
    """The validator looks at what it is given."""
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    document["paths"]["/v1/models/{id}"]["get"]["parameters"] = []
    assert list(OpenAPIV30SpecValidator(document).iter_errors())


def ask_everything(server, directory, *arguments):
    run = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml",
            "run", COMMITTED, "--url", server.url, *arguments,
        ],
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
            "SERVER_URL": server.url,
        },
        cwd=directory, text=True, timeout=900, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.mark.timeout(900)
def test_the_server_keeps_to_its_document(open_server, tmp_path):
    report = ask_everything(open_server, tmp_path)
    assert "No issues found" in report, report
    assert open_server.process.poll() is None


@pytest.mark.timeout(900)
def test_a_guarded_server_keeps_to_its_document(guarded_server, tmp_path):
    """Without a key everything behind it is 401 in the document's shape."""
    ask_everything(guarded_server, tmp_path, "--max-examples", "20")
