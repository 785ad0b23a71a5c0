// OpenAI's client for Node with tools and forms: the helpers that run functions and parse.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { Server } from './server.mjs';

const BOTH = [{ role: 'user', content: 'The weather in both towns, please.' }];
const QUESTION = [{ role: 'user', content: 'What is an NPU?' }];
const CALLED = [
  { town: "L'Aquila", metric: true },
  { town: 'Köln', metric: false },
];
const SUNNY = "Sunny in L'Aquila, rain in Köln.";

const Weather = z.object({ town: z.string(), metric: z.boolean() });
const Report = z.object({
  mood: z.enum(['good', 'bad']),
  place: z.object({ town: z.string(), height_m: z.number() }),
  tags: z.array(z.string()),
  remark: z.string().nullable(),
});

let server, client;
before(async () => {
  server = await Server.start();
  client = server.client();
});
after(() => server.stop());

// A tool as the client runs it; `called` gets its arguments.
function weatherTool(called) {
  return zodFunction({
    name: 'get_weather',
    description: 'The weather in a town.',
    parameters: Weather,
    function: async (args) => {
      called.push(args);
      return { town: args.town, sky: 'clear' };
    },
  });
}

for (const stream of [false, true]) {
  test(`functions are run to the end of the conversation, ${stream ? 'streamed' : 'whole'}`, async () => {
    const called = [];
    const runner = client.chat.completions.runTools({
      model: 'demo',
      messages: BOTH,
      tools: [weatherTool(called)],
      stream,
    });
    const results = [];
    runner.on('functionToolCallResult', (result) => results.push(JSON.parse(result)));
    assert.equal(await runner.finalContent(), SUNNY);
    assert.deepEqual(called, CALLED);
    assert.deepEqual(results.map((result) => result.town), ["L'Aquila", 'Köln']);
    assert.deepEqual(
      runner.messages.map((message) => message.role),
      ['user', 'assistant', 'tool', 'tool', 'assistant'],
    );
    assert.equal(runner.allChatCompletions().length, 2);
  });
}

test('a function that is written by hand is run too', async () => {
  const called = [];
  const runner = client.chat.completions.runTools({
    model: 'demo',
    messages: [{ role: 'user', content: 'The weather in Ulm, please.' }],
    tools: [
      {
        type: 'function',
        function: {
          name: 'get_weather',
          description: 'The weather in a town.',
          parameters: { type: 'object', properties: { town: { type: 'string' } } },
          parse: JSON.parse,
          function: (args, runner) => {
            called.push(args);
            runner.abort();
            return 'clear';
          },
        },
      },
    ],
  });
  await assert.rejects(runner.done(), OpenAI.APIUserAbortError);
  assert.deepEqual(called, [{ town: 'Ulm', metric: true }]);
});

test('arguments are parsed', async () => {
  const answer = await client.chat.completions.parse({
    model: 'demo',
    messages: BOTH,
    tools: [zodFunction({ name: 'get_weather', parameters: Weather })],
  });
  const calls = answer.choices[0].message.tool_calls;
  assert.deepEqual(calls.map((call) => call.function.parsed_arguments), CALLED);
});

test('the streaming helper says each call with its arguments', async () => {
  const runner = client.chat.completions.stream({
    model: 'demo',
    messages: BOTH,
    tools: [zodFunction({ name: 'get_weather', parameters: Weather })],
  });
  const done = [];
  runner.on('tool_calls.function.arguments.done', (event) => done.push(event));
  const message = await runner.finalMessage();
  assert.deepEqual(done.map((event) => event.parsed_arguments), CALLED);
  assert.deepEqual(done.map((event) => event.index), [0, 1]);
  assert.equal(new Set(message.tool_calls.map((call) => call.id)).size, 2);
});

test('a form is parsed, whole and streamed', async () => {
  const request = {
    model: 'demo',
    messages: QUESTION,
    max_completion_tokens: 400,
    response_format: zodResponseFormat(Report, 'report'),
  };
  const answer = await client.chat.completions.parse(request);
  assert.deepEqual(Report.parse(answer.choices[0].message.parsed), answer.choices[0].message.parsed);
  const runner = client.chat.completions.stream(request);
  const final = await runner.finalChatCompletion();
  assert.deepEqual(Report.parse(final.choices[0].message.parsed), final.choices[0].message.parsed);
});

test('a form that is cut off is said to be', async () => {
  await assert.rejects(
    client.chat.completions.parse({
      model: 'demo',
      messages: QUESTION,
      max_tokens: 3,
      response_format: zodResponseFormat(Report, 'report'),
    }),
    OpenAI.LengthFinishReasonError,
  );
});

test('a call that is demanded comes', async () => {
  const answer = await client.chat.completions.parse({
    model: 'demo',
    messages: QUESTION,
    tools: [zodFunction({ name: 'get_weather', parameters: Weather })],
    tool_choice: 'required',
  });
  const [call] = answer.choices[0].message.tool_calls;
  assert.equal(call.function.name, 'get_weather');
  Weather.parse(call.function.parsed_arguments);
});
