"""The reference of Ollama's API that users have: each request of it, in our own words.

`compat/COVERAGE.md` says which section is held by which test.
"""

import concurrent.futures
import json
import pathlib
import subprocess

import httpx
import pytest

NODE_PACKAGES = pathlib.Path(__file__).parents[1] / "sdk" / "node"
URL = "http://localhost:11434"
COUNTS = {
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
    "eval_duration",
}


def post(path, **body):
    answer = httpx.post(f"{URL}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def lines_of(answer):
    *lines, end = answer.text.split("\n")
    assert end == "" and all(lines)
    return [json.loads(line) for line in lines]


# Generate completions


def test_a_prompt(server):
    answer = post("/api/generate", model="llama2", prompt="Why is the sky blue?", stream=False)
    answer = answer.json()
    assert answer["model"] == "llama2" and answer["done"] and answer["response"]
    assert COUNTS <= set(answer) and all(answer[name] > 0 for name in COUNTS)
    assert answer["context"] and answer["created_at"].endswith("Z")


def test_a_prompt_in_lines(server):
    *pieces, last = lines_of(post("/api/generate", model="llama2", prompt="Tell me a story", stream=True))
    assert all(set(piece) >= {"model", "created_at", "response", "done"} for piece in pieces)
    assert not any(piece["done"] for piece in pieces)
    assert last["done"] and last["response"] == "" and last["total_duration"] > 0 and last["context"]


# Chat completions


def test_a_chat(server):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    answer = post("/api/chat", model="llama2", messages=messages, stream=False, think=False).json()
    assert answer["message"] == {"role": "assistant", "content": "The capital of France is Paris."}
    assert answer["done"] and COUNTS <= set(answer)


def test_several_turns(server):
    messages = [
        {"role": "user", "content": "How much is two and two?"},
        {"role": "assistant", "content": "It is four."},
        {"role": "user", "content": "Count from 1 to 10, please."},
    ]
    lines = lines_of(post("/api/chat", model="llama2", messages=messages, think=False))
    text = "".join(line["message"]["content"] for line in lines)
    assert text == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10" and lines[-1]["done"]


# Model management


def test_the_list(server):
    (model,) = httpx.get(f"{URL}/api/tags").json()["models"]
    assert {"name", "modified_at", "size", "digest", "details"} <= set(model)
    assert {"format", "family", "families", "parameter_size", "quantization_level"} <= set(
        model["details"]
    )


def test_a_model_is_shown(server):
    shown = post("/api/show", name="llama2").json()
    assert {"modelfile", "parameters", "template", "details"} <= set(shown)
    assert "FROM " in shown["modelfile"] and "temperature" in shown["parameters"]


# Embeddings


def test_a_vector(server):
    for text in ("The quick brown fox jumps", "A document to be found"):
        answer = post("/api/embeddings", model="nomic-embed-text", prompt=text).json()
        assert sum(number * number for number in answer["embedding"]) == pytest.approx(1, abs=1e-5)


# Advanced parameters, models for code


def test_options(server):
    options = {
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "repeat_penalty": 1.1, "seed": 42,
        "num_predict": 5, "stop": ["</s>", "Human:"], "mirostat": 1, "mirostat_eta": 0.1,
    }
    answer = post(
        "/api/generate", model="llama2", prompt="Count from 1 to 10", stream=False, options=options
    )
    answer = answer.json()
    assert answer["eval_count"] == 5 and answer["done_reason"] == "length"


def test_instructions_and_a_template(server):
    first = post("/api/generate", model="llama2", prompt="Hello", stream=False).json()
    body = {
        "model": "llama2",
        "prompt": "What is the capital of France?",
        "system": "You know towns.",
        "template": "System: {{ .System }}\n\nUser: {{ .Prompt }}\n\nAssistant:",
        "options": {"temperature": 0.7},
    }
    shown = post("/api/generate", **body, _debug_render_only=True).json()
    assert shown["_debug_info"]["rendered_template"] == (
        "System: You know towns.\n\nUser: What is the capital of France?\n\nAssistant:"
    )
    answer = post("/api/generate", **body, context=first["context"], stream=False).json()
    assert answer["done"] and answer["context"][: len(first["context"])] == first["context"]
    assert answer["prompt_eval_count"] > len(first["context"])


def test_code(server):
    body = {"prompt": "Write a function", "options": {"temperature": 0.1, "stop": ["```"]}}
    for model in ("codellama:7b", "codellama:7b-code", "codellama"):
        assert lines_of(post("/api/generate", model=model, **body))[-1]["done"]


# Integration examples


class Client:
    """As small as the guide's."""

    def __init__(self, url=URL):
        self.url = url

    def generate(self, model, prompt, stream=False, **options):
        return self._ask("/api/generate", stream, model=model, prompt=prompt, options=options)

    def chat(self, model, messages, stream=False, **options):
        return self._ask("/api/chat", stream, model=model, messages=messages, options=options)

    def embeddings(self, model, prompt):
        return post("/api/embeddings", model=model, prompt=prompt).json()

    def list_models(self):
        return httpx.get(f"{self.url}/api/tags").json()

    def _ask(self, path, stream, **body):
        if not stream:
            return post(path, stream=False, **body).json()
        return self._lines(path, {"stream": True, **body})

    def _lines(self, path, body):
        with httpx.stream("POST", f"{self.url}{path}", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                yield json.loads(line)


def test_a_client_in_python(server):
    client = Client()
    assert client.generate("llama2", "What is the capital of France?", temperature=0)["response"]
    messages = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    said = client.chat("llama2", messages)["message"]["content"]
    assert said == "The capital of France is Paris."
    streamed = client.chat("llama2", messages, stream=True)
    assert "".join(line["message"]["content"] for line in streamed) == said
    assert len(client.embeddings("nomic-embed-text", "A sample")["embedding"]) > 1
    assert len(client.list_models()["models"]) == 1


def test_a_client_in_javascript(server):
    program = """
        const url = 'http://localhost:11434';
        const ask = (path, body) => fetch(url + path, {
            method: 'POST',
            headers: { 'Content-Type': 'application/json' },
            body: JSON.stringify(body),
        });
        async function* lines(body) {
            const reader = (await ask('/api/generate', body)).body.getReader();
            const decoder = new TextDecoder();
            let rest = '';
            for (;;) {
                const { done, value } = await reader.read();
                if (done) break;
                rest += decoder.decode(value, { stream: true });
                const all = rest.split('\\n');
                rest = all.pop();
                for (const line of all) yield JSON.parse(line);
            }
        }
        const prompt = 'What is the capital of France?';
        const whole = await (await ask('/api/generate', { model: 'llama2', prompt, stream: false })).json();
        let text = '';
        for await (const line of lines({ model: 'llama2', prompt, stream: true })) {
            if (!line.done) text += line.response;
        }
        const messages = [{ role: 'user', content: prompt }];
        const chat = await (await ask('/api/chat', { model: 'llama2', messages, stream: false })).json();
        const vector = await (await ask('/api/embeddings', { model: 'nomic-embed-text', prompt })).json();
        const tags = await (await fetch(url + '/api/tags')).json();
        console.log(JSON.stringify([
            whole.response === text, chat.message.content, vector.embedding.length > 1, tags.models.length,
        ]));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", program], cwd=NODE_PACKAGES, capture_output=True,
        text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, "The capital of France is Paris.", True, 1]


def test_curl(curl):
    body = {
        "model": "llama2", "prompt": "What is the capital of France?", "stream": False,
        "options": {"temperature": 0.7, "num_predict": 300},
    }
    assert json.loads(curl(f"{URL}/api/generate", body, method="POST"))["done"]
    body = {"model": "codellama", "prompt": "Reverse a text", "stream": False}
    assert json.loads(curl(f"{URL}/api/generate", body, method="POST"))["done"]
    body = {"model": "nomic-embed-text", "prompt": "A sample"}
    assert json.loads(curl(f"{URL}/api/embeddings", body, method="POST"))["embedding"]


# Batches, health, errors


def test_many_at_once(server):
    prompts = [f"What is number {number}?" for number in range(6)]

    def ask(prompt):
        return post("/api/generate", model="llama2", prompt=prompt, stream=False).json()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(ask, prompts))
    assert all(answer["done"] and answer["response"] for answer in answers)


def test_is_it_there(curl):
    assert json.loads(curl(f"{URL}/api/tags"))["models"]
    body = {"model": "llama2", "prompt": "Hello", "stream": False, "options": {"num_predict": 1}}
    assert json.loads(curl(f"{URL}/api/generate", body, method="POST"))["eval_count"] == 1


def test_a_model_that_is_not_there(server):
    body = {"model": "nonexistent", "prompt": "Hello", "stream": False}
    answer = httpx.post(f"{URL}/api/generate", json=body)
    assert answer.status_code == 404
    assert answer.json() == {"error": "model 'nonexistent' not found"}


def test_a_model_is_pulled_and_deleted(server):
    lines = httpx.post(f"{URL}/api/pull", json={"name": "username/repo"}, timeout=60).text.splitlines()
    statuses = [json.loads(line)["status"] for line in lines]
    assert statuses[0] == "pulling manifest" and statuses[-1] == "success"
    last = [line for line in map(json.loads, lines) if "digest" in line][-1]
    assert last["completed"] == last["total"] > 0
    names = [model["name"] for model in httpx.get(f"{URL}/api/tags").json()["models"]]
    assert "repo:latest" in names
    deleted = httpx.request("DELETE", f"{URL}/api/delete", json={"name": "repo"})
    assert deleted.status_code == 200 and deleted.content == b""
