// Claude Code itself, not interactive, against the server: an answer, a tool that it runs, what it makes of a
// context that is too small.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Server } from './server.mjs';

// Its installation script, which `npm ci` is told not to run, would put the program in the place of this.
const PROGRAM = path.resolve(
  import.meta.dirname,
  'node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs',
);
// All its tools and instructions are more than any model for the NPU can be given.
const SMALL = ['--tools', 'Read', '--allowedTools', 'Read', '--system-prompt', 'You help.'];

let home, note, server;
before(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'rkllama-claude-'));
  note = path.join(home, 'work', 'note.txt');
  await mkdir(path.dirname(note));
  await writeFile(note, 'Buy plums.\n');
  const script = path.join(home, 'script.toml');
  await writeFile(
    script,
    `[[rule]]
user_contains = "say grüße"
say = "Grüße aus Köln 😀"

[[rule]]
user_contains = "look into the note"
after_tool = false
tool_call = { name = "Read", arguments = { file_path = ${JSON.stringify(note)} } }

[[rule]]
prompt_contains = "Buy plums."
after_tool = true
say = "It says: plums."
`,
  );
  server = await Server.start({ MOCK_NPU_SCRIPT: script }, { contextLength: 16384 });
});
after(async () => {
  await server?.stop();
  await rm(home, { recursive: true });
});

// Exit code and output. A home of its own, and nothing asked of anybody but this server.
function claude(words, url = server.url) {
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    ANTHROPIC_BASE_URL: url,
    ANTHROPIC_AUTH_TOKEN: 'unused',
    ANTHROPIC_MODEL: 'demo',
    ANTHROPIC_SMALL_FAST_MODEL: 'demo',
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    DISABLE_AUTOUPDATER: '1',
    DISABLE_ERROR_REPORTING: '1',
    DISABLE_TELEMETRY: '1',
  };
  const options = { cwd: path.dirname(note), env, timeout: 100_000 };
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [PROGRAM, '-p', ...words], options, (error, out, err) =>
      resolve({ code: error ? error.code : 0, out, err }),
    );
    child.stdin.end();
  });
}

async function answer(...words) {
  const { code, out, err } = await claude([...words, ...SMALL, '--output-format', 'json']);
  assert.equal(code, 0, out + err);
  return JSON.parse(out);
}

test('an answer', async () => {
  const { code, out, err } = await claude(['Please say grüße.', ...SMALL]);
  assert.deepEqual({ code, out: out.trim() }, { code: 0, out: 'Grüße aus Köln 😀' }, err);
});

test('it runs a tool and tells the model what came of it', async () => {
  const { is_error, num_turns, result } = await answer('Please look into the note.');
  assert.deepEqual({ is_error, num_turns, result }, { is_error: false, num_turns: 2, result: 'It says: plums.' });
});

test('another conversation finds its instructions and tools in the cache', async () => {
  await answer('Please say grüße to them.');
  const { usage } = await answer('And now please say grüße to us.');
  assert.ok(usage.cache_read_input_tokens > 10 * usage.input_tokens, JSON.stringify(usage));
});

test('it understands that its prompt is too long', async () => {
  const small = await Server.start();
  try {
    const { code, out } = await claude(['Please say grüße.'], small.url);
    assert.equal(code, 1, out);
    assert.match(out, /^Prompt is too long/);
  } finally {
    await small.stop();
  }
});
