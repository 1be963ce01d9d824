// The dashboard in a real browser: an admin walks every page, acts, and sees what came of it.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { desktop, hasNoBarrier, launch, phone } from "./browser.mjs";
import { artefacts, start } from "./server.mjs";

const shots = path.join(artefacts, "dashboard");
/** Every page by name, with what its heading says. */
const pages = (server) => ({
  overview: ["/dashboard", "Overview"],
  archetypes: ["/dashboard/archetypes", "Archetypes"],
  recommendations: ["/dashboard/recommendations", "Recommendations"],
  users: ["/dashboard/users", "Users"],
  user: [`/dashboard/user?id=${server.sample.userId}`, `User ${server.sample.userId}`],
  jobs: ["/dashboard/jobs", "Jobs"],
  alerts: ["/dashboard/alerts", "Alerts"],
  audit: ["/dashboard/audit", "Audit"],
  settings: ["/dashboard/settings", "Settings"],
});

let browser, server, root, decision;
before(async () => {
  await mkdir(shots, { recursive: true });
  server = await start(["demo", "--people", "2000"]);
  const profile = { type: "INSERT", table: "profiles", schema: "public", record: { id: "root", role: "admin" }, old_record: null };
  const seeded = await fetch(`${server.url}/functions/v1/ingest`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.serviceKey}`, "content-type": "application/json" },
    body: JSON.stringify(profile),
  });
  assert.equal(seeded.status, 200, await seeded.text());
  root = await server.token("root");
  const asked = await fetch(`${server.url}/functions/v1/transaction-recommendations?${new URLSearchParams(server.sample)}`, {
    headers: { authorization: `Bearer ${server.serviceKey}` },
  });
  decision = (await asked.json()).recommendationId;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Opens a browser window, and collects what it complains of and whom it asks. */
const open = async (options = {}) => {
  const context = await browser.newContext({ viewport: desktop, ...options });
  const page = await context.newPage();
  const complaints = [];
  const requests = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  return { context, page, complaints, requests };
};

const signIn = async (page, token = root) => {
  await page.goto(`${server.url}/dashboard`);
  await page.getByLabel(/Token of an admin/).fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
};

const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
const heading = (page, name) => page.getByRole("heading", { name, level: 1, exact: true });

describe("the dashboard", () => {
  test("an admin signs in, sees the overview, and signs out", async () => {
    const { page, complaints, requests } = await open();
    await page.goto(`${server.url}/dashboard/audit`);
    assert.match(page.url(), /sign-in\?next=/);
    await page.getByLabel(/Token of an admin/).fill(root);
    await page.keyboard.press("Enter");
    await heading(page, "Audit").waitFor();
    assert.match(await page.locator("header").innerText(), /root/);
    await page.goto(`${server.url}/dashboard`);
    await page.locator("[data-live-note]", { hasText: "live" }).first().waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Sign in" }).waitFor();
    await page.goto(`${server.url}/dashboard`);
    assert.match(page.url(), /sign-in/);
    assert.deepEqual(complaints, []);
    for (const url of requests) assert.ok(url.startsWith(server.url), `${url} is somebody else's`);
  });

  test("a wrong token is refused in words", async () => {
    const { page } = await open();
    await page.goto(`${server.url}/dashboard`);
    await page.getByLabel(/Token of an admin/).fill(await server.token(server.sample.userId));
    await page.getByRole("button", { name: "Sign in" }).click();
    assert.match(await page.getByRole("alert").innerText(), /no admin/);
  });

  for (const [view, options] of Object.entries({
    "desktop-light": { viewport: desktop, colorScheme: "light" },
    "desktop-dark": { viewport: desktop, colorScheme: "dark" },
    "phone-light": { viewport: phone, colorScheme: "light", deviceScaleFactor: 2, isMobile: true, hasTouch: true },
    "phone-dark": { viewport: phone, colorScheme: "dark", deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  })) {
    test(`every page works and has no serious barrier: ${view}`, async () => {
      const { page, complaints, requests } = await open(options);
      await page.goto(`${server.url}/dashboard`);
      await hasNoBarrier(page, "sign-in");
      await page.screenshot({ path: path.join(shots, `sign-in-${view}.png`), fullPage: true });
      await signIn(page);
      await page.goto(`${server.url}/dashboard/jobs`);
      const run = await page.locator("tbody a").first().getAttribute("href");
      const all = { ...pages(server), decision: [`/dashboard/recommendations/${decision}`, undefined], run: [run, "A run of the job"] };
      for (const [name, [target, title]] of Object.entries(all)) {
        const answer = await page.goto(server.url + target);
        assert.equal(answer.status(), 200, target);
        if (title) await heading(page, title).waitFor();
        assert.equal(await wide(page), 0, `${name} is wider than the screen`);
        // With everything folded out, so that all of it is looked at.
        await page.screenshot({ path: path.join(shots, `${name}-${view}.png`), fullPage: true });
        await page.evaluate(() => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
        await hasNoBarrier(page, name);
      }
      assert.deepEqual(complaints, []);
      for (const url of requests) assert.ok(url.startsWith(server.url), `${url} is somebody else's`);
    });
  }

  test("every page is reached by the navigation, and without a script", async () => {
    const { page } = await open({ javaScriptEnabled: false });
    await signIn(page);
    for (const name of await page.locator("nav.parts a").allInnerTexts()) {
      await page.locator("nav.parts").getByRole("link", { name, exact: true }).click();
      await heading(page, name).waitFor();
      assert.equal(await page.locator("nav.parts [aria-current=page]").innerText(), name);
    }
  });

  test("a decision is found and explains itself", async () => {
    const { page, complaints } = await open();
    await signIn(page);
    await page.locator("nav.parts").getByRole("link", { name: "Recommendations" }).click();
    await page.getByLabel("User id").fill(server.sample.userId);
    await page.getByRole("button", { name: "Search" }).click();
    await page.locator("tbody tr").first().locator("a").first().click();
    const text = await page.locator("main").innerText();
    for (const expected of ["the three options", "what would have to change", "what it was made from", "the same answer"]) {
      assert.ok(text.toLowerCase().includes(expected), `${expected} in ${text}`);
    }
    assert.deepEqual(complaints, []);
  });

  test("a job is started, followed to its end, and another one cancelled", async () => {
    const { page, complaints } = await open();
    await signIn(page);
    await page.goto(`${server.url}/dashboard/jobs`);
    await page.getByLabel(/Whose archetypes/).selectOption("all");
    await page.getByRole("button", { name: "Start a run" }).click();
    await page.getByRole("status").filter({ hasText: /started/ }).waitFor();
    // The page follows it to its end by itself.
    await page.locator("#live-job").getByRole("button", { name: "Start a run" }).waitFor();
    await page.reload();
    await page.locator("tbody tr", { hasText: "root" }).filter({ hasText: "completed" }).locator("a").first().click();
    assert.match(await page.locator("main").innerText(), /Distribution after the run/);
    await page.goto(`${server.url}/dashboard/archetypes`);
    assert.match(await page.locator("main").innerText(), /From run to run/);
    // One commit a user takes long enough to be cancelled, but for a busy machine: then another one is. It is started
    // elsewhere; the open page tells of it.
    await page.goto(`${server.url}/dashboard/jobs`);
    const soon = { timeout: 5_000 };
    let cancelled = false;
    for (let tries = 0; tries < 10 && !cancelled; tries += 1) {
      const started = await fetch(`${server.url}/functions/v1/archetype-recalculation-job`, {
        method: "POST",
        headers: { authorization: `Bearer ${server.serviceKey}`, "content-type": "application/json" },
        body: JSON.stringify({ config: { batchSize: 1, onlyStaleUsers: false }, wait: false }),
      });
      assert.equal(started.status, 202);
      if (tries > 0) await page.goto(`${server.url}/dashboard/jobs`);
      cancelled = await page
        .getByRole("button", { name: "Cancel the run" })
        .click(soon)
        .then(() => page.getByRole("status").filter({ hasText: /cancelled/ }).waitFor(soon))
        .then(
          () => true,
          () => false,
        );
    }
    assert.ok(cancelled);
    assert.match(await page.locator("tbody tr").first().innerText(), /cancelled/);
    assert.deepEqual(complaints, []);
  });

  test("an alert is silenced, and heard again", async () => {
    const { page, complaints } = await open();
    await signIn(page);
    await page.locator("nav.parts").getByRole("link", { name: "Alerts" }).click();
    await page.locator("select[name=rule]").selectOption("job_missed");
    await page.locator("select[name=hours]").selectOption("24");
    await page.getByLabel(/^Reason/).fill("the demo has no night");
    await page.getByRole("button", { name: "Silence" }).click();
    await page.getByRole("status").filter({ hasText: "silenced" }).waitFor();
    const silence = page.locator("tr", { hasText: "the demo has no night" });
    assert.match(await silence.innerText(), /in force/);
    await silence.getByRole("button", { name: "End the silence" }).click();
    await page.getByRole("status").filter({ hasText: "ended" }).waitFor();
    assert.match(await silence.innerText(), /ended by root/);
    await page.goto(`${server.url}/dashboard/audit`);
    assert.match(await page.locator("tbody").innerText(), /silence alert[\s\S]*the demo has no night/);
    assert.deepEqual(complaints, []);
  });

  test("an archetype is overridden and reset, and the audit log has both", async () => {
    const { page, complaints } = await open();
    await signIn(page);
    const user = server.sample.userId;
    await page.goto(`${server.url}/dashboard/user?id=${user}`);
    const before = await page.locator("dl.facts").first().innerText();
    const override = page.locator("form[action$='/override']");
    await override.getByLabel("Archetype").selectOption("high_flexibility");
    await override.getByLabel(/^Reason/).fill("seen in a browser <b>");
    await override.getByLabel(/^Ends/).fill("2099-01-01T00:00");
    await override.getByRole("button", { name: "Override" }).click();
    await page.getByRole("status").filter({ hasText: "overridden" }).waitFor();
    assert.match(await page.locator("dl.facts").first().innerText(), /Flexible Scheduler, confidence 1[\s\S]*of root, until 2099/);
    await page.getByRole("button", { name: "Reset the override" }).click();
    await page.getByRole("status").filter({ hasText: "reset" }).waitFor();
    const after = await page.locator("dl.facts").first().innerText();
    assert.equal(after.split("Computed")[0], before.split("Computed")[0]);
    await page.getByRole("link", { name: "In the audit log" }).click();
    const rows = await page.locator("tbody tr").allInnerTexts();
    assert.match(rows[0], /root[\s\S]*reset archetype/);
    assert.match(rows[1], /override archetype[\s\S]*seen in a browser <b>/);
    assert.match(await page.locator(".chain").innerText(), /chain whole/);
    assert.deepEqual(complaints, []);
  });
});
