// A real browser: Debian's, or another one on the PATH.

import assert from "node:assert/strict";
import { access, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const findBrowser = async () => {
  const folders = ["/usr/bin", ...(process.env.PATH ?? "").split(path.delimiter)];
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const candidates = [process.env.CHROMIUM, ...folders.flatMap((folder) => names.map((name) => path.join(folder, name)))];
  for (const candidate of candidates.filter(Boolean)) {
    const found = await access(candidate).then(() => true, () => false);
    if (found) return candidate;
  }
  throw new Error("no chromium on the PATH: install it (apt-get install chromium), or set CHROMIUM to one");
};

/** Starts the browser. */
export const launch = async () => chromium.launch({ executablePath: await findBrowser(), args: flags });

export const desktop = { width: 1280, height: 900 };
export const phone = { width: 390, height: 844 };

/** Fails when axe finds a serious or critical barrier on the page as it stands. */
export const hasNoBarrier = async (page, where) => {
  const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(`${axe}; undefined`);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  assert.ok(passes.length > 10, "axe has looked at the page");
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, any }) => html + any.map((a) => a.message)).join("; ")}`);
  assert.deepEqual(told, [], where);
};
