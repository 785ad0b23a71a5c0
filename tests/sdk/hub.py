"""A hub that is played here: a few repositories, on a port of this machine."""

import hashlib
import http.server
import json
import threading

from serving import REPOSITORY

DEMO = REPOSITORY / "mock-npu" / "demo"
COMMIT = "c0ffee" * 6 + "c0ff"


def demo(weights):
    """The files of the demo model, whose weights have this name."""
    names = {"tokenizer.json": "tokenizer.json", "tokenizer_config.json": "tokenizer_config.json"}
    return {name: (DEMO / file).read_bytes() for name, file in {**names, weights: "demo.rkllm"}.items()}


class Hub:
    """Repositories by their names, each with its files."""

    def __init__(self, repositories):
        answer = handler(repositories)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def handler(repositories):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            for name, files in repositories.items():
                if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                    siblings = [sibling(*file) for file in files.items()]
                    return self.send(json.dumps({"sha": COMMIT, "siblings": siblings}).encode())
                file = path.removeprefix(f"/{name}/resolve/{COMMIT}/")
                if file in files:
                    return self.send(files[file])
            return self.send(b"", 404)

        def send(self, body, status=200):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def sibling(name, content):
    lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    more = {"lfs": lfs} if name.endswith(".rkllm") else {}
    return {"rfilename": name, "size": len(content), **more}
