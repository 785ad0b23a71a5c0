"""The guides to the old RKLLama, its own routes and its dialect of Ollama's: each request, in our own words.

`compat/COVERAGE.md` says which section is held by which test.
"""

import json

import httpx
import pytest

URL = "http://localhost:8080"
NOTHING_LOADED = {"error": "No model is currently loaded."}


def ask(method, path, body=None):
    answer = httpx.request(method, f"{URL}{path}", json=body, timeout=60)
    return answer.status_code, answer.json()


@pytest.fixture
def loaded(server):
    assert ask("POST", "/load_model", {"model_name": "model1.rkllm"})[0] == 200
    yield
    ask("POST", "/unload_model")


# The REST API


def test_the_models(curl, server):
    models = json.loads(curl(f"{URL}/models", method="GET"))
    assert models["models"] == ["demo"]
    # What llama-server's clients look for.
    assert models["object"] == "list" and models["data"][0]["id"] == "demo"


def test_the_way_of_a_model(curl, server):
    assert ask("GET", "/current_model") == (404, NOTHING_LOADED)
    assert ask("POST", "/generate", {"messages": "Hello"}) == (400, NOTHING_LOADED)
    assert ask("POST", "/unload_model") == (400, NOTHING_LOADED)
    answer = json.loads(curl(f"{URL}/load_model", {"model_name": "model1.rkllm"}, method="POST"))
    assert answer == {"message": "Model model1.rkllm loaded successfully."}
    refused = {"error": "A model is already loaded. Please unload it first."}
    assert ask("POST", "/load_model", {"model_name": "demo"}) == (400, refused)
    current = json.loads(curl(f"{URL}/current_model", method="GET"))
    assert current == {"model_name": "model1.rkllm"}
    assert [model["name"] for model in ask("GET", "/current_models")[1]["models"]] == ["demo:latest"]
    assert json.loads(curl(f"{URL}/unload_model", method="POST")) == {
        "message": "Model unloaded successfully."
    }
    assert ask("GET", "/current_model") == (404, NOTHING_LOADED)
    assert ask("POST", "/unload_models") == (200, {"message": "Models successfully unloaded!"})


def test_loading_what_is_not_there(server):
    missing = {"error": "Model nobody.rkllm not found in the /models directory."}
    assert ask("POST", "/load_model", {"model_name": "nobody.rkllm"}) == (400, missing)
    nameless = {"error": "Please enter the name of the model to be loaded."}
    assert ask("POST", "/load_model", {}) == (400, nameless)


def test_generating(curl, loaded):
    body = {"messages": "What is the capital of France?", "stream": False}
    answer = json.loads(curl(f"{URL}/generate", body, method="POST"))
    assert (answer["id"], answer["object"]) == ("rkllm_chat", "rkllm_chat")
    (choice,) = answer["choices"]
    assert choice["content"] == "The capital of France is Paris."
    assert (choice["role"], choice["finish_reason"]) == ("assistant", "stop")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_generating_from_a_conversation_in_pieces(loaded):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    body = {"messages": messages, "stream": True}
    text = httpx.post(f"{URL}/generate", json=body, timeout=60).text
    *pieces, end = text.split("\n\n")
    pieces = [json.loads(piece) for piece in pieces]
    said = "".join(piece["choices"][0]["content"] for piece in pieces)
    assert end == "" and said == "The capital of France is Paris."
    reasons = [piece["choices"][0]["finish_reason"] for piece in pieces]
    assert reasons == [None] * (len(pieces) - 1) + ["stop"]


def test_generating_a_form(loaded):
    schema = {"type": "object", "properties": {"colors": {"type": "array"}}, "required": ["colors"]}
    body = {"messages": "Name three colors.", "format": schema, "options": {"temperature": 0}}
    (choice,) = ask("POST", "/generate", body)[1]["choices"]
    assert choice["parsed"] == {"colors": ["red", "green", "blue"]}
    status, answer = ask("POST", "/generate", {"stream": False})
    assert status == 400 and "Invalid JSON data!" in answer["error"]


def test_the_root(curl, server):
    answer = json.loads(curl(f"{URL}/", method="GET"))
    assert answer["message"] == "Welcome to RK-LLama!" and "rkllama" in answer["github"]
    assert answer["status"] == "Ollama is running"
    assert httpx.head(f"{URL}/").status_code == 200
    page = httpx.get(f"{URL}/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"].startswith("text/html") and "demo" in page.text


# The dialect of Ollama's API


def test_the_dialect_chats(curl):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    body = {"model": "qwen2.5:3b", "messages": messages, "think": False}
    text = curl(f"{URL}/api/chat", body, method="POST", kind=None)
    lines = [json.loads(line) for line in text.splitlines()]
    said = "".join(line["message"]["content"] for line in lines)
    assert said == "The capital of France is Paris." and lines[-1]["done_reason"] == "stop"


def test_the_dialect_generates(curl):
    body = {"model": "qwen2.5:3b", "prompt": "A poem, please"}
    text = curl(f"{URL}/api/generate", body, method="POST", kind=None)
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[-1]["done"] and "".join(line["response"] for line in lines)


def test_the_dialect_reads_into_vectors(curl):
    body = {"model": "Qwen3-Embedding-0.6B_W8A8_RK3588", "prompt": "What is the capital of China?"}
    answer = json.loads(curl(f"{URL}/api/embeddings", body, method="POST", kind=None))
    assert list(answer) == ["embedding"]
    assert sum(number * number for number in answer["embedding"]) == pytest.approx(1, abs=1e-5)
    body = {"model": "Qwen3-Embedding-0.6B_W8A8_RK3588", "input": "What is the capital of China?"}
    assert len(json.loads(curl(f"{URL}/api/embed", body, method="POST", kind=None))["embeddings"]) == 1


def test_the_dialect_lists_and_shows(curl):
    assert json.loads(curl(f"{URL}/api/tags"))["models"][0]["name"] == "demo:latest"
    assert json.loads(curl(f"{URL}/api/version"))["version"].count(".") == 2
    shown = json.loads(curl(f"{URL}/api/show", {"name": "qwen2.5:3b"}, method="POST"))
    assert shown["details"]["format"] == "rkllm"


# What changes the models


def test_fetching_and_removing(curl, server):
    text = curl(f"{URL}/pull", {"model": "hf/username/repo/file.rkllm"}, method="POST")
    lines = text.splitlines()
    assert "Downloading file.rkllm (0.00 MB)..." in lines and lines[-1] == "100%"
    assert "repo" in ask("GET", "/models")[1]["models"]
    assert ask("POST", "/load_model", {"model_name": "file.rkllm"})[0] == 200
    answer = json.loads(curl(f"{URL}/rm", {"model": "file.rkllm"}, method="DELETE"))
    assert answer == {"message": "The model has been successfully deleted."}
    assert "repo" not in ask("GET", "/models")[1]["models"]
    assert ask("GET", "/current_model")[0] == 404
    missing = {"error": "The model: file.rkllm cannot be found."}
    assert ask("DELETE", "/rm", {"model": "file.rkllm"}) == (404, missing)
    assert ask("POST", "/rm", {"model": "../demo"})[0] == 404
    broken = httpx.post(f"{URL}/pull", json={"model": "username/nothing/file.rkllm"}, timeout=60)
    assert broken.text.startswith("Error during download: ")


def test_the_dialect_makes_and_removes(server):
    modelfile = 'FROM="demo.rkllm"\nHUGGINGFACE_PATH="org/repo"\nSYSTEM="Be brief."\nTEMPERATURE=0.5\n'
    answer = httpx.post(
        f"{URL}/api/create", json={"name": "brief", "modelfile": modelfile, "stream": False}, timeout=60
    )
    assert answer.json() == {"status": "success"}
    assert ask("POST", "/api/show", {"name": "brief"})[1]["system"] == "Be brief."
    pulled = httpx.post(f"{URL}/api/pull", json={"name": "username/repo"}, timeout=60).text
    assert json.loads(pulled.splitlines()[-1]) == {"status": "success"}
    for name in ["brief", "repo"]:
        assert httpx.request("DELETE", f"{URL}/api/delete", json={"name": name}).status_code == 200
    assert [model["name"] for model in ask("GET", "/api/tags")[1]["models"]] == ["demo:latest"]


def test_the_dialect_reranks(curl, server):
    """A Modelfile says that the model is made for it."""
    modelfile = 'FROM="demo.rkllm"\nMODEL_TYPE="reranker"\n'
    body = {"name": "Qwen3-Reranker-0.6B_W8A8_RK3588", "modelfile": modelfile, "stream": False}
    assert httpx.post(f"{URL}/api/create", json=body, timeout=60).json() == {"status": "success"}
    body = {
        "model": "Qwen3-Reranker-0.6B_W8A8_RK3588",
        "prompt": "What is the capital of China?",
        "documents": ["Gravity attracts two bodies.", "The capital of China is Beijing."],
    }
    scores = json.loads(curl(f"{URL}/api/rerank", body, method="POST", kind=None))["scores"]
    assert [score["document"] for score in scores] == body["documents"][::-1]
    assert 1 >= scores[0]["score"] > scores[1]["score"] >= 0
    httpx.request("DELETE", f"{URL}/api/delete", json={"name": body["model"]})


def test_looking_at_an_answer(server):
    """The server was started with `--debug`."""
    lines = httpx.post(
        f"{URL}/api/generate", json={"model": "demo", "prompt": "Hello", "think": False}, timeout=60
    ).text
    fine = {"status": "ok", "message": "No issues found in the response format"}
    assert ask("POST", "/api/debug", {"stream_data": lines}) == (200, fine)
    status, found = ask("POST", "/api/debug", {"stream_data": lines.splitlines()[0]})
    assert status == 200 and found["status"] == "error" and found["issues"]
