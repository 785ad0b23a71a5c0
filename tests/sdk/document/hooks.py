"""What schemathesis must be told of server-sent events, which OpenAPI 3.0 has no words for.

The document describes a stream as a text. schemathesis would hold each event to that, so it is not
shown the text's schema; in its place each event is held to what the description says.
"""

import json

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
