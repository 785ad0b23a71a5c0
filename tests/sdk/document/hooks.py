"""What schemathesis must be told: of server-sent events, which OpenAPI 3.0 has no words for, and of ids.

The document describes a stream as a text. schemathesis would hold each event to that, so it is not
shown the text's schema; in its place each event is held to what the description says.
"""

import itertools
import json
import os
import urllib.error
import urllib.request

import schemathesis
from openapi_schema_validator import OAS30Validator

CHUNKS = {
    "/v1/chat/completions": "ChatChunk",
    "/v1/completions": "CompletionChunk",
    "/v1/responses": "ResponseEvent",
}
STREAM = "text/event-stream"

validators = {}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    for name in (*CHUNKS.values(), "ErrorResponse"):
        schema = {"$ref": f"#/components/schemas/{name}", "components": raw_schema["components"]}
        validators[name] = OAS30Validator(schema)
    for path in CHUNKS:
        del raw_schema["paths"][path]["post"]["responses"]["200"]["content"][STREAM]["schema"]


def kept_response():
    """The id of a new response; none from a server that wants a key."""
    request = urllib.request.Request(
        os.environ["SERVER_URL"] + "/v1/responses",
        json.dumps({"model": "demo", "input": "Hi", "max_output_tokens": 16}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["id"]
    except urllib.error.HTTPError:
        return None


turns = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Every other time the id is one that the server knows: nobody makes it up."""
    if "response_id" not in (case.path_parameters or {}) or not case.meta.generation.mode.is_positive:
        return
    if next(turns) % 2 == 0 and (known := kept_response()):
        case.path_parameters["response_id"] = known


@schemathesis.check
def events_are_chunks(ctx, response, case):
    """schemathesis reads the beginning of a long stream only, so there may be no end to look at."""
    if not response.headers.get("content-type", [""])[0].startswith(STREAM):
        return
    *events, _ = response.content.decode().split("\n\n")
    lines = [line for event in events for line in event.split("\n")]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data, "a stream without an event"
    for text in data[:-1] if data[-1] == "[DONE]" else data:
        chunk = json.loads(text)
        name = "ErrorResponse" if "error" in chunk else CHUNKS[case.operation.path]
        fault = next(validators[name].iter_errors(chunk), None)
        assert fault is None, f"{name}: {fault.message} in {text}"
