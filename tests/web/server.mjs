// Starts the built program in a folder of its own, as a user does, and reads what it prints.

import { spawn, execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
/** The built program. */
export const program = process.env.NUDGE_BIN ?? path.join(root, "target/debug/nudge");
const patience = 120_000;

/** Where screenshots go; not part of the repository. */
export const artefacts = path.join(root, "artefacts");

/**
 * Starts `nudge` with these arguments and environment on a free port.
 * Gives its address, its keys, ways to run commands beside it, and `stop`.
 */
export const start = async (args, environment = {}) => {
  const folder = await mkdtemp(path.join(tmpdir(), "nudge-web-"));
  const env = { PATH: process.env.PATH, ...environment };
  const child = spawn(program, [...args, "--data-dir", "data", "--port", "0"], {
    cwd: folder,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (bytes) => (log += bytes));
  const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  const greeting = await new Promise((resolve, reject) => {
    let text = "";
    const timer = setTimeout(() => reject(new Error(`no greeting in time\n${text}\n${log}`)), patience);
    createInterface(child.stdout).on("line", (line) => {
      text += `${line}\n`;
      if (line.includes("Ctrl-C")) {
        clearTimeout(timer);
        resolve(text);
      }
    });
    ended.then(({ code, signal }) => reject(new Error(`ended with ${code ?? signal}\n${text}\n${log}`)));
    child.once("error", reject);
  });
  const command = async (...commandArgs) => {
    const { stdout } = await run(program, [...commandArgs, "--data-dir", "data"], { cwd: folder, env });
    return stdout.trim();
  };
  const keys = JSON.parse(await command("keys", "--json"));
  const ask = greeting.match(/userId=(\S+?)&targetDate=(\S+?)&roommateId=([^\s']+)/);
  return {
    url: greeting.match(/http:\/\/\S+/)[0],
    greeting,
    anonKey: keys.SUPABASE_ANON_KEY,
    serviceKey: keys.SUPABASE_SERVICE_ROLE_KEY,
    /** The greeting's example: a user, a coming night, and the roommate who holds it. */
    sample: ask && { userId: ask[1], targetDate: ask[2], roommateId: ask[3] },
    token: (user) => command("token", "--sub", user),
    command,
    log: () => log,
    stop: async () => {
      child.kill("SIGTERM");
      const { code } = await ended;
      await rm(folder, { recursive: true, force: true });
      if (code !== 0) throw new Error(`the server ended with ${code}\n${log}`);
    },
  };
};
