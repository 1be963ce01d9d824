// The Supabase CLI as npm has it, against a database of its own: it pushes the migrations, lists them, finds nothing to
// advise, and generates types. `db diff`, `db dump` and `functions serve` need Docker, so they are not here.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const cluster = process.env.NUDGE_TEST_POSTGRES;
assert.ok(cluster, "NUDGE_TEST_POSTGRES names no cluster: export NUDGE_TEST_POSTGRES=$(scripts/postgres start DIR PORT)");
assert.ok(process.env.NUDGE_BIN, "NUDGE_BIN names no program");
const program = resolve(process.env.NUDGE_BIN);
const owner = "nudge_cli_test_owner";
const made = [];
let folder;

function psql(url, sql) {
  return execFileSync("psql", ["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql], { encoding: "utf8" });
}

/** Makes an empty database whose owner is no superuser. */
function database() {
  const name = `nudge_supabase_cli_${process.pid}_${made.length}`;
  psql(cluster, `DO $$ BEGIN CREATE ROLE ${owner} LOGIN CREATEROLE;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`);
  // Whoever made the callers' roles of this cluster, the owner may join them.
  const roles = psql(cluster, "SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')");
  for (const role of roles.split("\n").filter(Boolean)) psql(cluster, `GRANT ${role} TO ${owner}`);
  psql(cluster, `CREATE DATABASE ${name} OWNER ${owner}`);
  made.push(name);
  const url = new URL(cluster);
  url.username = owner;
  url.pathname = `/${name}`;
  return `${url}?sslmode=disable`;
}

function run(file, args, env = {}) {
  const done = spawnSync(file, args, { cwd: folder, encoding: "utf8", env: { ...process.env, ...env }, timeout: 120_000 });
  if (done.error) throw done.error;
  return { status: done.status, text: `${done.stdout}${done.stderr}` };
}

// The package `supabase` only picks one of these by platform.
const supabase = (...args) => run(join(here, "node_modules/@supabase/cli-linux-x64/bin/supabase"), args, { HOME: folder });
const nudge = (url, ...args) => run(program, [...args, "--data-dir", "data"], { DATABASE_URL: url });

before(() => {
  folder = mkdtempSync(join(tmpdir(), "nudge-supabase-cli-"));
  cpSync(join(here, "../../supabase"), join(folder, "supabase"), { recursive: true });
});

after(() => {
  rmSync(folder, { recursive: true, force: true });
  for (const name of made) psql(cluster, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
});

test("the CLI pushes the migrations, and nudge goes on from there", () => {
  const url = database();
  const pushed = supabase("db", "push", "--yes", "--db-url", url);
  assert.equal(pushed.status, 0, pushed.text);
  assert.match(pushed.text, /Applying migration 20261101000100_decisions\.sql/);
  const again = nudge(url, "db", "push");
  assert.equal(again.status, 0, again.text);
  assert.match(again.text, /nothing to do/);
  const diff = nudge(url, "db", "diff");
  assert.equal(diff.status, 0, diff.text);
  const rights = nudge(url, "rls", "verify");
  assert.equal(rights.status, 0, rights.text);
  // Step 1.3 of the guide, as written.
  const tables = psql(url, "SELECT table_name FROM information_schema.tables WHERE table_schema='public' AND table_name LIKE '%archetype%';");
  assert.deepEqual(tables.trim().split("\n").sort(), ["archetype_job_logs", "user_archetypes"]);
});

test("nudge pushes the migrations, and the CLI goes on from there", () => {
  const url = database();
  const pushed = nudge(url, "db", "push");
  assert.equal(pushed.status, 0, pushed.text);
  const again = supabase("db", "push", "--yes", "--db-url", url);
  assert.equal(again.status, 0, again.text);
  assert.match(again.text, /up to date/);
  const list = supabase("migration", "list", "--db-url", url);
  assert.equal(list.status, 0, list.text);
  for (const version of psql(url, "SELECT version FROM nudge.migrations ORDER BY 1").trim().split("\n")) {
    const row = list.text.split("\n").find((line) => line.includes(version));
    assert.equal(row?.split(version).length, 3, `${version} is there on both sides: ${list.text}`);
  }
});

test("the advisor finds nothing, and types are generated", () => {
  const url = database();
  assert.equal(nudge(url, "db", "push").status, 0);
  const advice = supabase("db", "advisors", "--fail-on", "warn", "--db-url", url);
  assert.equal(advice.status, 0, advice.text);
  assert.match(advice.text, /No issues found/);
  const types = supabase("gen", "types", "--lang", "typescript", "--db-url", url);
  assert.equal(types.status, 0, types.text);
  for (const table of ["user_archetypes", "recommendation_logs", "admin_audit_log", "archetype_job_logs"]) {
    assert.match(types.text, new RegExp(`"${table}": \\{`), table);
  }
  assert.doesNotMatch(types.text, /recommendation_logs_2/, "no partition is exposed");
});
