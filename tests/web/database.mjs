// A PostgreSQL database of its own for a test, on the cluster that NUDGE_TEST_POSTGRES names.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { program } from "./server.mjs";

const run = promisify(execFile);
const owner = "nudge_web_test_owner";
let made = 0;

const psql = async (url, sql) => {
  const { stdout } = await run("psql", ["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
  return stdout.trim();
};

/** Makes a database with the schema, whose owner is no superuser. Gives its address, and `drop`. */
export const database = async () => {
  const cluster = process.env.NUDGE_TEST_POSTGRES;
  if (!cluster) {
    throw new Error("NUDGE_TEST_POSTGRES names no cluster: export NUDGE_TEST_POSTGRES=$(scripts/postgres start DIR PORT)");
  }
  made += 1;
  const name = `nudge_web_${process.pid}_${made}`;
  await psql(cluster, `DO $$ BEGIN CREATE ROLE ${owner} LOGIN CREATEROLE;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`);
  // Whoever made the callers' roles of this cluster, the owner may join them.
  const roles = await psql(cluster, "SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')");
  for (const role of roles.split("\n").filter(Boolean)) await psql(cluster, `GRANT ${role} TO ${owner}`);
  await psql(cluster, `CREATE DATABASE ${name} OWNER ${owner}`);
  const url = new URL(cluster);
  url.username = owner;
  url.pathname = `/${name}`;
  const address = `${url}?sslmode=disable`;
  await run(program, ["db", "push"], { env: { PATH: process.env.PATH, DATABASE_URL: address } });
  return { url: address, drop: () => psql(cluster, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
};
