"""A server on the mock runtime for the official clients.

RKLLAMA_BIN and MOCK_NPU_LIBS say where the executable and the mock libraries lie; `ci/test sdk` sets
both.
"""

import os
import pathlib
import re
import shutil
import subprocess

import openai
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = pathlib.Path(__file__).with_name("script.toml")


class Server:
    """`variables` are further ones of the environment: configuration, and the mock's own."""

    def __init__(self, directory: pathlib.Path, **variables: str):
        models = directory / "models"
        shutil.copytree(REPOSITORY / "mock-npu" / "demo", models / "demo")
        self.trace = directory / "trace.jsonl"
        libraries = pathlib.Path(os.environ["MOCK_NPU_LIBS"])
        self.process = subprocess.Popen(
            [
                os.environ["RKLLAMA_BIN"], "serve", "--listen", "127.0.0.1:0",
                "--models", models, "--runtime", libraries / "1.3.0" / "librkllmrt.so",
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "MOCK_NPU_SCALE": "0",
                "MOCK_NPU_SCRIPT": str(SCRIPT),
                "MOCK_NPU_TRACE": str(self.trace),
                **variables,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.search(r"listening on (http://\S+)", line)
        assert found, f"the server did not start: {line!r}"
        self.url = found[1]

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0
        self.process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def client(server):
    """No retries: a request that fails must be seen to fail."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client
