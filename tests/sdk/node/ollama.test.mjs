// Ollama's client for JavaScript: answers whole and streamed, tools, thoughts, forms, vectors, lists, errors.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Ollama } from 'ollama';

import { Server } from './server.mjs';

const QUESTION = [{ role: 'user', content: 'What is an NPU?' }];
const BOTH = [{ role: 'user', content: 'The weather in both towns, please.' }];
const THINK = [{ role: 'user', content: 'Think first, then greet.' }];
const CALLED = [
  { town: "L'Aquila", metric: true },
  { town: 'Köln', metric: false },
];
const SUNNY = "Sunny in L'Aquila, rain in Köln.";
const TOOL = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather in a town.',
    parameters: {
      type: 'object',
      properties: { town: { type: 'string' }, metric: { type: 'boolean' } },
      required: ['town', 'metric'],
    },
  },
};

let server, client;
before(async () => {
  server = await Server.start();
  client = new Ollama({ host: server.url });
});
after(() => server.stop());

const ask = (messages, fields = {}) =>
  client.chat({ model: 'demo', messages, think: false, options: { temperature: 0 }, ...fields });
const words = (parts) => parts.map((part) => part.message.content).join('');

test('a chat is the same whole and streamed', async () => {
  const whole = await ask(QUESTION);
  assert.ok(whole.message.content && whole.done && whole.done_reason === 'stop');
  const parts = await Array.fromAsync(await ask(QUESTION, { stream: true }));
  assert.ok(parts.length > 3);
  assert.equal(words(parts), whole.message.content);
  assert.equal(parts.at(-1).eval_count, whole.eval_count);
  assert.ok(parts.at(-1).total_duration > 0);
});

for (const stream of [false, true]) {
  test(`the loop of tools comes to its end, ${stream ? 'streamed' : 'whole'}`, async () => {
    const answer = await ask(BOTH, { tools: [TOOL], stream });
    const parts = stream ? await Array.fromAsync(answer) : [answer];
    const calls = parts.flatMap((part) => part.message.tool_calls ?? []);
    assert.deepEqual(calls.map((call) => call.function.arguments), CALLED);
    const results = calls.map((call) => ({
      role: 'tool',
      content: 'clear',
      tool_name: call.function.name,
    }));
    const said = { role: 'assistant', content: words(parts), tool_calls: calls };
    const final = await ask([...BOTH, said, ...results], { tools: [TOOL] });
    assert.equal(final.message.content, SUNNY);
  });
}

test('thoughts are told apart', async () => {
  const { message } = await ask(THINK, { think: true });
  assert.deepEqual([message.content, message.thinking], ['Hello!', 'They greet me.']);
  const silent = await ask(THINK);
  assert.deepEqual([silent.message.content, silent.message.thinking], ['Hello!', undefined]);
});

test('a form is held', async () => {
  const format = {
    type: 'object',
    properties: { mood: { enum: ['good', 'bad'] } },
    required: ['mood'],
    additionalProperties: false,
  };
  const parts = await Array.fromAsync(await ask(QUESTION, { format, stream: true }));
  assert.ok(['good', 'bad'].includes(JSON.parse(words(parts)).mood));
});

test('a prompt is gone on from', async () => {
  const raw = await client.generate({ model: 'demo', prompt: 'Once upon a', raw: true });
  assert.equal(raw.response, ' time there was a chip.');
  const first = await client.generate({ model: 'demo', prompt: 'What is an NPU?', think: false });
  assert.ok(first.context.length > first.prompt_eval_count);
  const { context } = first;
  const second = await client.generate({ model: 'demo', prompt: 'And?', think: false, context });
  assert.deepEqual(second.context.slice(0, context.length), context);
});

test('vectors have length one', async () => {
  const { embeddings } = await client.embed({ model: 'demo', input: ['a cat', 'a board'] });
  assert.equal(embeddings.length, 2);
  for (const vector of embeddings) {
    assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-5);
  }
  const { embedding } = await client.embeddings({ model: 'demo', prompt: 'a cat' });
  assert.deepEqual(embedding, embeddings[0]);
});

test('models are listed, shown and unloaded', async () => {
  const { models } = await client.list();
  assert.deepEqual(models.map((model) => model.model), ['demo:latest']);
  assert.match(models[0].digest, /^[0-9a-f]{64}$/);
  const shown = await client.show({ model: 'demo' });
  assert.deepEqual(shown.capabilities, ['completion', 'tools', 'thinking']);
  assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
  assert.equal((await client.generate({ model: 'demo', prompt: '' })).done_reason, 'load');
  const [process] = (await client.ps()).models;
  assert.equal(process.digest, models[0].digest);
  assert.ok(new Date(process.expires_at) > new Date());
  const unloaded = await client.generate({ model: 'demo', prompt: '', keep_alive: 0 });
  assert.equal(unloaded.done_reason, 'unload');
});

test('mistakes are thrown in the words of the server', async () => {
  for (const [call, status, message] of [
    [() => ask(QUESTION, { model: 'absent' }), 404, "model 'absent' not found"],
    [() => ask(QUESTION, { model: 'a b', stream: true }), 400, 'invalid model name'],
    [() => client.show({ model: 'absent' }), 404, "model 'absent:latest' not found"],
    [
      () => ask(QUESTION, { format: 'xml' }),
      400,
      'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object',
    ],
  ]) {
    await assert.rejects(call, (error) => {
      assert.deepEqual([error.status_code, error.message], [status, message]);
      return true;
    });
  }
});

test('a failure in the middle is thrown, and the next request works', async () => {
  const stream = await ask([{ role: 'user', content: 'fail in the middle' }], { stream: true });
  await assert.rejects(Array.fromAsync(stream), /while running the model/);
  assert.ok((await ask(QUESTION)).message.content);
});

// One answer at a time, at the demo model's own speed: what follows is answered only when the endless
// one has ended.
test('leaving a stream ends the answer', async () => {
  const slow = await Server.start({ MOCK_NPU_SCALE: '1' });
  try {
    const client = new Ollama({ host: slow.url });
    const fields = { model: 'demo', think: false };
    const messages = [{ role: 'user', content: 'never stop' }];
    const stream = await client.chat({ ...fields, messages, stream: true });
    const read = async () => {
      for await (const part of stream) if (part.message.content) stream.abort();
    };
    await assert.rejects(read, { name: 'AbortError' });
    const options = { num_predict: 2 };
    const next = await client.chat({ ...fields, messages: QUESTION, options });
    assert.equal(next.eval_count, 2);
  } finally {
    await slow.stop();
  }
});
