// What OpenAI's client for Node throws, and what leaving, waiting and trying again do.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import OpenAI from 'openai';

import { Server } from './server.mjs';

const QUESTION = [{ role: 'user', content: 'What is an NPU?' }];
const ENDLESS = [{ role: 'user', content: 'never stop' }];

// At the demo model's own speed an endless answer lasts for minutes.
let server, ada;
before(async () => {
  server = await Server.start({ MOCK_NPU_SCALE: '1', RKLLAMA_AUTH__KEYS: 'ada:secret-of-ada' });
  ada = server.client({ apiKey: 'secret-of-ada' });
});
after(() => server.stop());

const short = (client) =>
  client.chat.completions.create({ model: 'demo', messages: QUESTION, max_tokens: 2 });

test('a wrong key is an authentication error', async () => {
  const stranger = server.client({ apiKey: 'secret-of-nobody' });
  for (const ask of [
    () => stranger.models.list(),
    () => short(stranger),
    () => stranger.chat.completions.create({ model: 'demo', messages: QUESTION, stream: true }),
  ]) {
    await assert.rejects(ask, (error) => {
      assert.ok(error instanceof OpenAI.AuthenticationError);
      assert.deepEqual([error.status, error.code], [401, 'invalid_api_key']);
      assert.ok(!error.message.includes('secret-of-nobody'));
      return true;
    });
  }
});

for (const [what, fields, kind, code, param] of [
  ['model', { model: 'absent' }, OpenAI.NotFoundError, 'model_not_found', null],
  ['range', { temperature: 3 }, OpenAI.BadRequestError, 'decimal_above_max_value', 'temperature'],
  ['type', { top_p: 'much' }, OpenAI.BadRequestError, 'invalid_type', 'top_p'],
  ['empty', { messages: [] }, OpenAI.BadRequestError, 'empty_array', 'messages'],
  [
    'form',
    { response_format: { type: 'json_schema', json_schema: { name: 'n' } } },
    OpenAI.BadRequestError,
    'missing_required_parameter',
    'response_format.json_schema.schema',
  ],
]) {
  test(`a mistake throws the client's own error: ${what}`, async () => {
    for (const stream of [false, true]) {
      const request = { model: 'demo', messages: QUESTION, stream, ...fields };
      await assert.rejects(ada.chat.completions.create(request), (error) => {
        assert.ok(error instanceof kind, `${error}`);
        assert.equal(error.code, code);
        if (param) assert.equal(error.param, param);
        assert.ok(error.message && error.type && error.requestID);
        return true;
      });
    }
  });
}

test('a model that is not there is a NotFoundError', async () => {
  await assert.rejects(ada.models.retrieve('org/absent'), OpenAI.NotFoundError);
});

test('a failure in mid-stream is thrown, and the next request works', async () => {
  const messages = [{ role: 'user', content: 'fail in the middle' }];
  const stream = await ada.chat.completions.create({ model: 'demo', messages, stream: true });
  await assert.rejects(Array.fromAsync(stream), (error) => {
    assert.ok(error instanceof OpenAI.APIError);
    assert.match(error.message, /runtime/);
    return true;
  });
  assert.equal((await short(ada)).usage.completion_tokens, 2);
});

// One answer at a time: what follows is answered only when the one that was left has ended.
test('leaving a stream ends the answer', async () => {
  const endless = { model: 'demo', messages: ENDLESS, stream: true };
  for (const leave of [
    async (stream) => stream.controller.abort(),
    async (stream) => {
      for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    },
  ]) {
    await leave(await ada.chat.completions.create(endless));
    assert.equal((await short(ada)).usage.completion_tokens, 2);
  }
  const runner = ada.chat.completions.stream(endless);
  runner.once('content', () => runner.abort());
  await assert.rejects(runner.done(), OpenAI.APIUserAbortError);
  assert.equal((await short(ada)).usage.completion_tokens, 2);
});

test('leaving a whole answer ends it', async () => {
  await assert.rejects(
    ada.chat.completions.create(
      { model: 'demo', messages: ENDLESS },
      { signal: AbortSignal.timeout(300) },
    ),
    OpenAI.APIUserAbortError,
  );
  await assert.rejects(
    ada.chat.completions.create({ model: 'demo', messages: ENDLESS }, { timeout: 300 }),
    OpenAI.APIConnectionTimeoutError,
  );
  assert.equal((await short(ada)).usage.completion_tokens, 2);
});
