"""A server on the mock runtime for clients.

RKLLAMA_BIN and MOCK_NPU_LIBS say where the executable and the mock libraries lie; `ci/test sdk` sets
both.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = pathlib.Path(__file__).with_name("script.toml")


class Server:
    """Listens on the addresses of `listen`; the mock follows `script`; the model has the names `aliases` too;
    beside it stand `copies` of it under other names, each with its manifest.
    `variables` are further ones of the environment: configuration, and the mock's own."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        listen=("127.0.0.1:0",),
        script=SCRIPT,
        aliases=(),
        copies=None,
        **variables: str,
    ):
        models = directory / "models"
        shutil.copytree(REPOSITORY / "mock-npu" / "demo", models / "demo")
        if aliases:
            with (models / "demo" / "rkllama.toml").open("a", encoding="utf-8") as manifest:
                manifest.write(f"aliases = {json.dumps(aliases)}\n")
        for name, manifest in (copies or {}).items():
            shutil.copytree(REPOSITORY / "mock-npu" / "demo", models / name)
            (models / name / "rkllama.toml").write_text(manifest, encoding="utf-8")
        self.trace = directory / "trace.jsonl"
        libraries = pathlib.Path(os.environ["MOCK_NPU_LIBS"])
        self.process = subprocess.Popen(
            [
                os.environ["RKLLAMA_BIN"], "serve",
                *(word for address in listen for word in ("--listen", address)),
                "--models", models, "--runtime", libraries / "1.3.0" / "librkllmrt.so",
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "MOCK_NPU_SCALE": "0",
                "MOCK_NPU_SCRIPT": str(script),
                "MOCK_NPU_TRACE": str(self.trace),
                **variables,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        self.urls = [self._listening() for _ in listen]
        self.url = self.urls[0]

    def _listening(self):
        line = self.process.stdout.readline()
        found = re.search(r"listening on (http://\S+)", line)
        assert found, f"the server did not start: {line!r}"
        return found[1]

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0
        self.process.stdout.close()
