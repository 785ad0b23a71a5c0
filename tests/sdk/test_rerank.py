"""Cohere's client, and plain requests in the shapes of other servers, on a reranker."""

import shutil
import time

import cohere
import httpx
import pytest

from serving import REPOSITORY, Server

QUERY = "What is the capital of France?"
DOCUMENTS = ["Bananas are yellow.", "The capital of France is Paris.", "Many capitals lie on rivers."]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The reranker comes while the server runs: it is seen without a restart."""
    directory = tmp_path_factory.mktemp("rerank")
    server = Server(directory)
    model = directory / "models" / "judge"
    shutil.copytree(REPOSITORY / "mock-npu" / "demo", model)
    (model / "rkllama.toml").write_text("type = 'rerank'\n", encoding="utf-8")
    deadline = time.monotonic() + 60
    while "judge" not in httpx.get(f"{server.url}/models").json()["models"]:
        assert time.monotonic() < deadline, "the new model is not seen"
        time.sleep(0.1)
    yield server
    server.stop()


@pytest.fixture
def connection():
    with httpx.Client() as connection:
        yield connection


def test_cohere_v2(server, connection):
    client = cohere.ClientV2(api_key="unused", base_url=server.url, httpx_client=connection)
    found = client.rerank(model="judge", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [result.index for result in found.results][0] == 1
    assert len(found.results) == 2
    assert 0 <= found.results[1].relevance_score <= found.results[0].relevance_score <= 1


def test_cohere_v1(server, connection):
    client = cohere.Client(api_key="unused", base_url=server.url, httpx_client=connection)
    found = client.rerank(model="judge", query=QUERY, documents=DOCUMENTS, return_documents=True)
    assert found.results[0].document.text == DOCUMENTS[1]


def test_a_model_that_is_no_reranker_is_told(server, connection):
    client = cohere.ClientV2(api_key="unused", base_url=server.url, httpx_client=connection)
    with pytest.raises(cohere.core.ApiError) as refused:
        client.rerank(model="demo", query=QUERY, documents=DOCUMENTS)
    assert refused.value.status_code == 501


def test_the_shapes_agree(server):
    def ask(path, **body):
        answer = httpx.post(server.url + path, json=body)
        answer.raise_for_status()
        return answer.json()

    jina = ask("/v1/rerank", query=QUERY, documents=[{"text": text} for text in DOCUMENTS])
    best = jina["results"][0]["relevance_score"]
    assert ask("/rerank", query=QUERY, texts=DOCUMENTS)[0] == {"index": 1, "score": best}
    old = ask("/api/rerank", model="judge", prompt=QUERY, documents=DOCUMENTS)
    assert old["scores"][0] == {"document": DOCUMENTS[1], "score": best}
    vllm = ask("/v1/score", model="judge", text_1=QUERY, text_2=DOCUMENTS)
    assert vllm["data"][1]["score"] == best and vllm["usage"]["total_tokens"] > 0
