// Swagger UI in a real browser: a person tries a chat out on the page and sees it answered.
// CHROMIUM says where the browser lies and SCREENSHOTS where pictures go; `ci/test browser` sets both.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { chromium } from 'playwright-core';

import { Server } from '../sdk/node/server.mjs';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

let server, browser;
before(async () => {
  server = await Server.start({ RKLLAMA_AUTH__KEYS: 'ada:secret-of-ada' });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
  await mkdir(process.env.SCREENSHOTS, { recursive: true });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

// A page of its own, with everything that the page asked for and everything that went wrong on it.
async function openPage() {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1600 } });
  const requests = [];
  const faults = [];
  page.on('request', (request) => requests.push(request.url()));
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  await page.goto(`${server.url}/docs/`);
  await page.getByText('POST', { exact: true }).first().waitFor();
  return { page, requests, faults };
}

const operation = (page, id) => page.locator(`.opblock[id$="${id}"]`);

async function authorize(page, key) {
  await page.locator('button.authorize').first().click();
  await page.locator('.auth-container input').fill(key);
  await page.locator('.auth-container button.authorize').click();
  await page.locator('.auth-container button.btn-done').click();
}

// Opens an operation, gives it a body, sends it, and waits for the answer.
async function tryOut(page, id, body) {
  const block = operation(page, id);
  await block.locator('.opblock-summary-control').click();
  await block.locator('button.try-out__btn').click();
  if (body) await block.locator('textarea.body-param__text').fill(JSON.stringify(body));
  const [response] = await Promise.all([
    page.waitForResponse((response) => response.url().startsWith(`${server.url}/v1/`)),
    block.locator('button.execute').click(),
  ]);
  const live = block.locator('.live-responses-table');
  await live.locator('.response-col_description pre').first().waitFor();
  return { response, live };
}

const picture = (name) => path.join(process.env.SCREENSHOTS, name);

test('a streamed chat from the page shows its chunks', async () => {
  const { page, requests, faults } = await openPage();
  await authorize(page, 'secret-of-ada');
  const { response, live } = await tryOut(page, 'createChatCompletion', {
    model: 'demo',
    stream: true,
    messages: [{ role: 'user', content: 'Please say grüße.' }],
  });
  assert.equal(response.status(), 200);
  assert.match(response.headers()['content-type'], /^text\/event-stream/);
  const shown = await live.locator('tbody .response-col_description').innerText();
  const data = shown.split('\n').filter((line) => line.startsWith('data: '));
  assert.equal(data.at(-1), 'data: [DONE]');
  const chunks = data.slice(0, -1).map((line) => JSON.parse(line.slice('data: '.length)));
  assert.ok(chunks.length > 5, `${chunks.length} chunks`);
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('');
  assert.equal(text, 'Grüße aus Köln 😀');
  assert.deepEqual(faults, []);
  // The page loads nothing from elsewhere: a board may have no network.
  assert.deepEqual(requests.filter((url) => !/^(data|blob):/.test(url) && !url.startsWith(server.url)), []);
  await live.scrollIntoViewIfNeeded();
  await live.screenshot({ path: picture('swagger-streamed-chat.png') });
  await page.close();
});

test("the page's own example is answered", async () => {
  const { page } = await openPage();
  await authorize(page, 'secret-of-ada');
  const { response } = await tryOut(page, 'createChatCompletion');
  // It names a model that this server lacks, as the error says.
  assert.equal(response.status(), 404);
  assert.equal((await response.json()).error.code, 'model_not_found');
  const { response: models, live } = await tryOut(page, 'listModels');
  assert.equal(models.status(), 200);
  assert.match(await live.innerText(), /"demo"/);
  await page.close();
});

test('without a key the page shows what is missing', async () => {
  const { page } = await openPage();
  const { response, live } = await tryOut(page, 'listModels');
  assert.equal(response.status(), 401);
  assert.match(await live.innerText(), /"type": "invalid_request_error"/);
  await page.close();
});
