// OpenAI's client for Node against a running server: chats, texts, models.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Server } from './server.mjs';

const QUESTION = [{ role: 'user', content: 'What is an NPU?' }];
const GREEDY = { model: 'demo', messages: QUESTION, temperature: 0 };

let server, client;
before(async () => {
  server = await Server.start();
  client = server.client();
});
after(() => server.stop());

const contentOf = (answer) => answer.choices[0].message.content;

test('a whole answer is complete', async () => {
  const answer = await client.chat.completions.create(GREEDY);
  const [choice] = answer.choices;
  assert.equal(answer.object, 'chat.completion');
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.model, 'demo');
  assert.equal(choice.finish_reason, 'stop');
  assert.equal(choice.message.role, 'assistant');
  assert.ok(choice.message.content);
  assert.equal(choice.message.refusal, null);
  assert.ok(answer._request_id);
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.ok(prompt_tokens > 0 && completion_tokens > 0);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
});

test('a stream says the same as a whole answer', async () => {
  const whole = await client.chat.completions.create(GREEDY);
  const stream = await client.chat.completions.create({
    ...GREEDY,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = await Array.fromAsync(stream);
  const deltas = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta));
  assert.equal(deltas.map((delta) => delta.content ?? '').join(''), contentOf(whole));
  assert.equal(deltas[0].role, 'assistant');
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  assert.equal(chunks.at(-2).choices[0].finish_reason, 'stop');
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.deepEqual(chunks.at(-1).usage, whole.usage);
});

test('the streaming helper assembles the answer and says its pieces', async () => {
  const runner = client.chat.completions.stream({
    ...GREEDY,
    stream_options: { include_usage: true },
  });
  let heard = '';
  runner.on('content', (delta, snapshot) => {
    heard += delta;
    assert.equal(snapshot, heard);
  });
  const final = await runner.finalChatCompletion();
  assert.equal(contentOf(final), contentOf(await client.chat.completions.create(GREEDY)));
  assert.equal(heard, contentOf(final));
  assert.equal(await runner.finalContent(), heard);
  assert.equal(final.choices[0].finish_reason, 'stop');
  assert.equal((await runner.totalUsage()).completion_tokens, final.usage.completion_tokens);
});

test('characters split over tokens arrive whole', async () => {
  const stream = await client.chat.completions.create({
    model: 'demo',
    messages: [{ role: 'user', content: 'say grüße' }],
    stream: true,
  });
  const pieces = (await Array.fromAsync(stream)).map((chunk) => chunk.choices[0].delta.content ?? '');
  assert.equal(pieces.join(''), 'Grüße aus Köln 😀');
  assert.ok(!pieces.some((piece) => piece.includes('\ufffd')));
});

test('thoughts are told apart', async () => {
  const messages = [{ role: 'user', content: 'Think first, then greet.' }];
  const answer = await client.chat.completions.create({ model: 'demo', messages });
  assert.equal(contentOf(answer), 'Hello!');
  assert.equal(answer.choices[0].message.reasoning_content.trim(), 'They greet me.');
  assert.ok(answer.usage.completion_tokens_details.reasoning_tokens > 0);
});

test('the response and its headers are to be had', async () => {
  const { data, response, request_id } = await client.chat.completions
    .create({ ...GREEDY, seed: 7, user: 'someone' })
    .withResponse();
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.equal(response.headers.get('x-rkllama-ignored'), 'seed, user');
  assert.equal(request_id, response.headers.get('x-request-id'));
  assert.ok(contentOf(data));
});

test('a text is completed, whole and streamed', async () => {
  const prompt = { model: 'demo', prompt: 'Once upon a' };
  const whole = await client.completions.create(prompt);
  assert.equal(whole.object, 'text_completion');
  assert.deepEqual(
    [whole.choices[0].text, whole.choices[0].finish_reason],
    [' time there was a chip.', 'stop'],
  );
  const chunks = await Array.fromAsync(await client.completions.create({ ...prompt, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), whole.choices[0].text);
  const several = await client.completions.create({ ...prompt, prompt: ['a', 'b'], max_tokens: 2 });
  assert.deepEqual(several.choices.map((choice) => choice.index), [0, 1]);
});

test('models are listed and found', async () => {
  const listed = await Array.fromAsync(client.models.list());
  assert.deepEqual(listed.map((model) => model.id), ['demo']);
  const found = await client.models.retrieve('demo');
  assert.deepEqual({ ...found }, { ...listed[0] });
});

test('a stream is as good as its parts when it is read twice', async () => {
  const stream = await client.chat.completions.create({ ...GREEDY, stream: true });
  const [left, right] = stream.tee();
  const texts = await Promise.all(
    [left, right].map(async (branch) => {
      const chunks = await Array.fromAsync(branch);
      return chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('');
    }),
  );
  assert.ok(texts[0]);
  assert.equal(texts[0], texts[1]);
});
