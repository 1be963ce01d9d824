// The start page, and the official client on another origin, in a real browser.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";

import { desktop, hasNoBarrier, launch, phone } from "./browser.mjs";
import { artefacts, start } from "./server.mjs";

const require = createRequire(import.meta.url);

let browser, server;
before(async () => {
  await mkdir(artefacts, { recursive: true });
  server = await start(["demo", "--people", "200"]);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

describe("the start page", () => {
  let page, complaints, requests;
  const open = async (options) => {
    const context = await browser.newContext({ viewport: desktop, ...options });
    page = await context.newPage();
    complaints = [];
    requests = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(server.url);
  };
  const ask = async (fields = {}) => {
    for (const [name, value] of Object.entries(fields)) await page.locator(`[name=${name}]`).fill(value);
    await page.getByRole("button", { name: "Recommend" }).click();
  };
  const cards = () => page.locator("#answer .option");
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  beforeEach(() => open());

  test("loads quietly and asks nobody else", async () => {
    assert.match(await page.title(), /Nudge/);
    await ask();
    await cards().first().waitFor();
    assert.deepEqual(complaints, []);
    assert.ok(requests.length >= 2, `${requests}`);
    for (const url of requests) assert.ok(url.startsWith(server.url), `${url} is somebody else's`);
  });

  test("the form gives three cards with the anonymous key", async () => {
    await ask();
    await cards().nth(2).waitFor();
    assert.equal(await cards().count(), 3);
    assert.equal(await page.locator("#answer .option.first").count(), 1);
    const text = await page.locator("#answer").innerText();
    assert.match(text, /neutral default/i);
    assert.match(text, /\$\d/);
    assert.match(text, /[0-9a-f]{8}-[0-9a-f]{4}-7/, "the id that it is recorded under");
  });

  test("a user's token gives a personal answer", async () => {
    await ask({ ...server.sample, token: await server.token(server.sample.userId) });
    await cards().nth(2).waitFor();
    assert.match(await page.locator("#answer").innerText(), /personal/i);
    await page.screenshot({ path: path.join(artefacts, "start-desktop.png"), fullPage: true });
    assert.deepEqual(complaints, []);
  });

  test("an error is said in words", async () => {
    await ask({ userId: "same", roommateId: "same" });
    const error = page.locator("#answer .error");
    await error.waitFor();
    const text = await error.innerText();
    assert.match(text, /roommate/i, text);
    assert.doesNotMatch(text, /undefined|\[object|{"|<script/);
    assert.equal(await cards().count(), 0, "no stale cards beside it");
    await page.screenshot({ path: path.join(artefacts, "start-error.png") });
    // And with a token that is none.
    await ask({ roommateId: "other", token: "not-a-token" });
    await page.locator("#answer .error", { hasText: "token" }).waitFor();
  });

  test("a name with markup stays text", async () => {
    await ask({ userId: "<img src=x onerror=alert(1)>", roommateId: "b" });
    await page.locator("#answer .error").waitFor();
    assert.equal(await page.locator("#answer img").count(), 0);
  });

  test("works on a phone, without anything beside the screen", async () => {
    await open({ viewport: phone, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    assert.equal(await wide(), 0, "before");
    await ask();
    await cards().nth(2).waitFor();
    assert.equal(await wide(), 0, "with an answer");
    await page.screenshot({ path: path.join(artefacts, "start-phone.png"), fullPage: true });
  });

  test("can be used with the keyboard alone", async () => {
    await page.locator("[name=userId]").focus();
    await page.keyboard.press("Enter");
    await cards().nth(2).waitFor();
    assert.equal(await page.locator("#answer").getAttribute("aria-live"), "polite");
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`has no serious barrier in ${colorScheme} colours`, async () => {
      await open({ colorScheme });
      await ask();
      await cards().nth(2).waitFor();
      if (colorScheme === "dark") await page.screenshot({ path: path.join(artefacts, "start-dark.png"), fullPage: true });
      await hasNoBarrier(page, colorScheme);
    });
  }
});

describe("supabase-js in a page of another origin", () => {
  let app, origin;
  before(async () => {
    const script = await readFile(require.resolve("@supabase/supabase-js").replace(/dist.*$/, "dist/umd/supabase.js"));
    app = createServer((request, response) => {
      const isScript = request.url === "/supabase.js";
      response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
      response.end(isScript ? script : "<!doctype html><title>An app</title><link rel=icon href=data:,><script src=/supabase.js></script>");
    });
    await new Promise((resolve) => app.listen(0, "127.0.0.1", resolve));
    origin = `http://127.0.0.1:${app.address().port}`;
  });
  after(() => app?.close());

  test("recommends, reports an outcome, reads an error's body, and reads rows with their count", async () => {
    const page = await (await browser.newContext()).newPage();
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(origin);
    const given = { url: server.url, key: server.anonKey, token: await server.token(server.sample.userId), sample: server.sample };
    const { answer, outcome, refused, rows } = await page.evaluate(async ({ url, key, token, sample }) => {
      const client = globalThis.supabase.createClient(url, key, { accessToken: async () => token });
      const name = `transaction-recommendations?${new URLSearchParams(sample)}`;
      const answer = await client.functions.invoke(name, { method: "GET" });
      const body = { recommendationId: answer.data?.recommendationId, event: "viewed" };
      const outcome = await client.functions.invoke("recommendation-outcomes", { body });
      const put = { method: "PUT", body: { userId: sample.userId, archetypeType: "big_spender", reason: "x" } };
      const { error } = await client.functions.invoke("user-archetype", put);
      const refused = { status: error.context.status, body: await error.context.json(), id: error.context.headers.get("x-request-id") };
      const rows = await client.from("recommendation_logs").select("user_id", { count: "exact" }).eq("id", body.recommendationId);
      return { answer: { data: answer.data, error: String(answer.error) }, outcome: outcome.data, refused, rows: { ...rows } };
    }, given);
    assert.equal(answer.data?.personalized, true, answer.error);
    assert.deepEqual(outcome, { success: true, recorded: 1, duplicates: 0 });
    assert.equal(refused.status, 403);
    assert.equal(refused.id, refused.body.requestId, "the browser may read the request's id");
    assert.deepEqual([rows.data, rows.count, rows.error], [[{ user_id: server.sample.userId }], 1, null], "the browser may read the count");
    assert.deepEqual(complaints, []);
  });
});
