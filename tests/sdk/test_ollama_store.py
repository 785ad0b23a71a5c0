"""The official Ollama client against the store: pull, list, show, create, copy, delete, files that are sent."""

import hashlib

import ollama
import pytest

from hub import DEMO, Hub, demo
from serving import Server

WEIGHTS = "tiny-rk3588.rkllm"
FILES = demo(WEIGHTS)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    hub = Hub({"org/tiny": FILES})
    server = Server(tmp_path_factory.mktemp("store"), RKLLAMA_HUB__ENDPOINT=hub.url)
    yield server
    server.stop()
    hub.stop()


@pytest.fixture
def client(server):
    with ollama.Client(host=server.url) as client:
        yield client


def names(client):
    return {model.model for model in client.list().models}


def test_a_pulled_model_is_listed_shown_and_answers(client):
    steps = list(client.pull("hf.co/org/tiny", stream=True))
    assert steps[0].status == "pulling manifest" and steps[-1].status == "success"
    weights = [step for step in steps if step.digest]
    assert weights[-1].completed == weights[-1].total == len(FILES[WEIGHTS])
    assert weights[-1].digest == "sha256:" + hashlib.sha256(FILES[WEIGHTS]).hexdigest()
    assert "tiny:latest" in names(client)
    assert client.show("hf.co/org/tiny").capabilities[0] == "completion"
    question = [{"role": "user", "content": "What is an NPU?"}]
    assert client.chat("tiny", question, think=False).message.content
    assert client.pull("org/tiny").status == "success", "there already"


def test_what_cannot_be_pulled_is_told(client):
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        client.pull("org/nothing")
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        list(client.pull("nothing", stream=True))
    with pytest.raises(ollama.ResponseError, match="invalid model name"):
        client.pull("a b")


def test_a_model_is_made_shown_copied_and_removed(client):
    made = client.create(
        model="mario",
        from_="demo",
        system="You are Mario.",
        parameters={"temperature": 0.5, "stop": ["STOP"], "mirostat": 1},
        license=["MIT"],
        messages=[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me!"}],
    )
    assert made.status == "success"
    shown = client.show("mario")
    assert "SYSTEM You are Mario." in shown.modelfile and "MESSAGE user Who?" in shown.modelfile
    assert shown.license == "MIT" and shown.details.parent_model == "demo"
    for line in ["temperature                    0.5", 'stop                           "STOP"',
                 "mirostat                       1"]:
        assert line in shown.parameters.splitlines()
    copied = client.copy("mario", "user/luigi:1")
    assert copied.status == "success"
    assert {"mario:latest", "user/luigi:1"} <= names(client)
    assert client.show("user/luigi:1").license == "MIT"
    for name in ["mario", "user/luigi:1"]:
        assert client.delete(name).status == "success"
    assert not {"mario:latest", "user/luigi:1"} & names(client)
    with pytest.raises(ollama.ResponseError) as gone:
        client.delete("mario")
    assert gone.value.status_code == 404


def test_files_that_are_sent_become_a_model(client):
    files = {}
    for name, source in [("model.rkllm", "demo.rkllm"), ("tokenizer.json", "tokenizer.json"),
                         ("tokenizer_config.json", "tokenizer_config.json")]:
        files[name] = client.create_blob(DEMO / source)
    steps = list(client.create(model="sent", files=files, stream=True))
    assert steps[-1].status == "success"
    assert client.generate("sent", "An NPU is", raw=True, options={"num_predict": 5}).response
    client.delete("sent")


def test_an_adapter_makes_another_model(client, tmp_path):
    lora = tmp_path / "lora.rkllm"
    lora.write_text('RKLLM-MOCK-LORA 1\n[[rule]]\nsay = "I am adapted."\n')
    digest = client.create_blob(lora)
    made = client.create(model="tuned", from_="demo", adapters={"lora.rkllm": digest})
    assert made.status == "success"
    say = lambda model: client.generate(model, "Who are you?", think=False).response
    assert say("tuned") == "I am adapted." != say("demo")
    shown = client.show("tuned")
    assert "ADAPTER lora.rkllm" in shown.modelfile and (shown.modelinfo or {}).get("adapter.file") == "lora.rkllm"
    with pytest.raises(ollama.ResponseError) as refused:
        client.create(model="two", from_="demo", adapters={"a.rkllm": digest, "b.rkllm": digest})
    assert (refused.value.status_code, refused.value.error) == (400, "only one adapter is currently supported")
    client.delete("tuned")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a b", "..", "a/b/c/d/e"])
def test_no_name_leads_out(client, server, name):
    for attempt in [
        lambda: client.create(model=name, from_="demo"),
        lambda: client.copy("demo", name),
        lambda: client.delete(name),
    ]:
        with pytest.raises(ollama.ResponseError):
            attempt()
    assert "demo:latest" in names(client)
