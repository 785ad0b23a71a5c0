// A server on the mock runtime for the official client. RKLLAMA_BIN and MOCK_NPU_LIBS say where the
// executable and the mock libraries lie; `ci/test node` sets both.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

import OpenAI from 'openai';

const SDK = path.resolve(import.meta.dirname, '..');
const DEMO = path.resolve(SDK, '../../mock-npu/demo');

export class Server {
  // `variables` are further ones of the environment: configuration, and the mock's own. `contextLength` is the
  // model's, where it is to be another one than the demo's.
  static async start(variables = {}, { contextLength } = {}) {
    const home = await mkdtemp(path.join(tmpdir(), 'rkllama-node-'));
    const models = path.join(home, 'models');
    await cp(DEMO, path.join(models, 'demo'), { recursive: true });
    if (contextLength) {
      const manifest = path.join(models, 'demo', 'rkllama.toml');
      const text = await readFile(manifest, 'utf8');
      await writeFile(manifest, text.replace(/^context_length = .*$/m, `context_length = ${contextLength}`));
    }
    const runtime = path.join(process.env.MOCK_NPU_LIBS, '1.3.0', 'librkllmrt.so');
    const child = spawn(
      process.env.RKLLAMA_BIN,
      ['serve', '--listen', '127.0.0.1:0', '--models', models, '--runtime', runtime],
      {
        env: {
          PATH: process.env.PATH,
          HOME: home,
          RUST_LOG: process.env.RUST_LOG ?? 'off',
          MOCK_NPU_SCALE: '0',
          MOCK_NPU_SCRIPT: path.join(SDK, 'script.toml'),
          ...variables,
        },
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    const url = await listening(child);
    return new Server(child, url, home);
  }

  constructor(child, url, home) {
    Object.assign(this, { child, url, home });
  }

  // No retries unless asked: a request that fails must be seen to fail.
  client(options = {}) {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: 'unused', maxRetries: 0, ...options });
  }

  async stop() {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const [code, signal] = await ended;
    await rm(this.home, { recursive: true });
    if (code !== 0) throw new Error(`the server ended with ${code ?? signal}`);
  }
}

async function listening(child) {
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /listening on (http:\/\/\S+)/.exec(line);
    if (found) {
      child.stdout.resume();
      return found[1];
    }
  }
  throw new Error('the server did not start');
}
