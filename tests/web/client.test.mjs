// The official client, unmodified, against the built program.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, test } from "node:test";

import { createClient, FunctionsFetchError, FunctionsHttpError } from "@supabase/supabase-js";
import WebSocket from "ws";

import { start } from "./server.mjs";

// The client wants a WebSocket even if nothing is subscribed to; Node before 22 has none.
const realtime = globalThis.WebSocket ? {} : { transport: WebSocket };
const client = (url, key, options = {}) =>
  createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false }, realtime, ...options });

const recommendation = (sample) => `transaction-recommendations?${new URLSearchParams(sample)}`;

/** Gives the data of a call that must have succeeded. */
const good = ({ data, error }) => {
  assert.equal(error, null, error && `${error.name}: ${error.message}`);
  return data;
};

/** Gives status and body of a call that must have been refused. */
const refused = async ({ data, error }) => {
  assert.equal(data, null);
  assert.ok(error instanceof FunctionsHttpError, `${error}`);
  const body = await error.context.json();
  for (const field of ["code", "error", "message", "requestId"]) assert.equal(typeof body[field], "string", field);
  assert.equal(error.context.headers.get("x-request-id"), body.requestId);
  return { status: error.context.status, body };
};

describe("supabase-js with the legacy keys of a demo", () => {
  let server, anonymous, user, service;
  before(async () => {
    server = await start(["demo", "--people", "200"]);
    const token = await server.token(server.sample.userId);
    anonymous = client(server.url, server.anonKey);
    user = client(server.url, server.anonKey, { accessToken: async () => token });
    service = client(server.url, server.serviceKey);
  });
  after(() => server?.stop());

  test("an anonymous GET gives the neutral default", async () => {
    const data = good(await anonymous.functions.invoke(recommendation(server.sample), { method: "GET" }));
    assert.equal(data.personalized, false);
    assert.equal(data.options.length, 3);
    assert.equal(data.options.filter((option) => option.recommended).length, 1);
    assert.equal(data.options[0].type, data.primaryRecommendation);
    assert.equal(data.contextFactors.roommateArchetype ?? null, null);
  });

  test("a user's GET gives a personal answer", async () => {
    const data = good(await user.functions.invoke(recommendation(server.sample), { method: "GET" }));
    assert.equal(data.personalized, true);
    assert.equal(data.contextFactors.pricingSource, "lease_night");
    assert.match(data.recommendationId, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  });

  test("a token in the global headers and one by setAuth count the same", async () => {
    const token = await server.token(server.sample.userId);
    const byHeader = client(server.url, server.anonKey, { global: { headers: { Authorization: `Bearer ${token}` } } });
    const bySetAuth = client(server.url, server.anonKey);
    bySetAuth.functions.setAuth(token);
    for (const one of [byHeader, bySetAuth]) {
      const data = good(await one.functions.invoke(recommendation(server.sample), { method: "GET" }));
      assert.equal(data.personalized, true);
    }
  });

  test("a recommendation's outcomes are taken, once each", async () => {
    const { recommendationId } = good(
      await user.functions.invoke(recommendation({ ...server.sample, sessionId: "a-session" }), { method: "GET" }),
    );
    const body = [
      { recommendationId, event: "viewed" },
      { recommendationId, event: "selected", transactionType: "swap", timeToDecisionSeconds: 12.5 },
    ];
    const first = good(await user.functions.invoke("recommendation-outcomes", { body }));
    assert.deepEqual(first, { success: true, recorded: 2, duplicates: 0 });
    const again = good(await user.functions.invoke("recommendation-outcomes", { body }));
    assert.deepEqual(again, { success: true, recorded: 0, duplicates: 2 });
    const told = JSON.parse(await server.command("explain", recommendationId, "--json"));
    assert.equal(told.outcome.userSelected ?? told.outcome.user_selected, "swap");
  });

  test("the service shows, overrides, recalculates and resets an archetype", async () => {
    const { userId } = server.sample;
    const name = `user-archetype?${new URLSearchParams({ userId })}`;
    const before = good(await service.functions.invoke(name, { method: "GET" }));
    const archetypeType = before.archetypeType === "high_flexibility" ? "average_user" : "high_flexibility";
    const put = good(
      await service.functions.invoke("user-archetype", {
        method: "PUT",
        body: { userId, archetypeType, reason: "asked by <support>" },
      }),
    );
    assert.equal(put.success, true);
    assert.equal(put.archetype.archetypeType, archetypeType);
    const seen = good(await user.functions.invoke(recommendation(server.sample), { method: "GET" }));
    assert.equal(seen.userArchetype.type, archetypeType, "the next answer uses it");
    const post = good(await service.functions.invoke("user-archetype", { body: { userId } }));
    assert.equal(post.archetype.isManualOverride, true, "a live override is kept");
    const reset = good(await service.functions.invoke(name, { method: "DELETE" }));
    assert.equal(reset.archetype.archetypeType, before.archetypeType);
    assert.match(await server.command("audit", "verify"), /^3 entries/);
  });

  test("the service ingests a webhook's rows", async () => {
    const { userId, roommateId } = server.sample;
    const record = {
      id: "from-the-app",
      requester_id: userId,
      receiver_id: roommateId,
      transaction_type: "buyout",
      target_night: "2027-01-01",
      proposed_price: 140,
      status: "pending",
      created_at: new Date().toISOString(),
      a_column_of_the_apps_own: true,
    };
    const body = { type: "INSERT", table: "date_change_requests", schema: "public", record, old_record: null };
    assert.equal(good(await service.functions.invoke("ingest", { body })).upserted, 1);
    assert.equal(good(await service.functions.invoke("ingest", { body })).unchanged, 1);
  });

  test("errors arrive as FunctionsHttpError with a body that says what to do", async () => {
    const { userId, targetDate, roommateId } = server.sample;
    const invoke = (who, query) => who.functions.invoke(recommendation(query), { method: "GET" });
    const missing = await refused(await invoke(user, { userId }));
    assert.equal(missing.status, 400);
    assert.deepEqual(missing.body.required, ["userId", "targetDate", "roommateId"]);
    const self = await refused(await invoke(user, { userId, targetDate, roommateId: userId }));
    assert.equal(self.status, 400);
    const other = await refused(await invoke(user, { userId: roommateId, targetDate, roommateId: userId }));
    const unknown = await refused(await invoke(user, { userId: "no-such-user", targetDate, roommateId }));
    assert.equal(other.status, 403);
    delete other.body.requestId;
    delete unknown.body.requestId;
    assert.deepEqual(other, unknown, "whether a user exists does not show");
    const put = { method: "PUT", body: { userId, archetypeType: "big_spender", reason: "mine" } };
    assert.equal((await refused(await user.functions.invoke("user-archetype", put))).status, 403);
    assert.equal((await refused(await anonymous.functions.invoke("user-archetype", put))).status, 401);
    const type = { method: "PUT", body: { userId, archetypeType: "BIG_SPENDER", reason: "x" } };
    const invalid = await refused(await service.functions.invoke("user-archetype", type));
    assert.deepEqual(
      [invalid.status, invalid.body.error, invalid.body.validTypes],
      [400, "Invalid archetypeType", ["big_spender", "high_flexibility", "average_user"]],
    );
    assert.equal((await refused(await service.functions.invoke("no-such-function"))).status, 404);
    const bad = client(server.url, server.anonKey, { accessToken: async () => `${server.anonKey}x` });
    assert.equal((await refused(await invoke(bad, server.sample))).status, 401);
  });

  test("a preflight needs no credentials and allows what the client sends", async () => {
    const url = new URL(`/functions/v1/${recommendation(server.sample)}`, server.url);
    const sent = { origin: "https://app.example", "access-control-request-method": "PUT" };
    const response = await new Promise((resolve, reject) => {
      request(url, { method: "OPTIONS", headers: sent }, resolve).on("error", reject).end();
    });
    response.resume();
    assert.equal(response.statusCode, 200);
    assert.equal(response.headers["access-control-allow-origin"], "*");
    const allowed = response.headers["access-control-allow-headers"].split(", ");
    for (const name of ["authorization", "x-client-info", "apikey", "content-type"]) assert.ok(allowed.includes(name));
    const methods = response.headers["access-control-allow-methods"];
    for (const method of ["GET", "POST", "PUT", "DELETE"]) assert.ok(methods.includes(method), method);
  });
});

describe("supabase-js with publishable and secret keys", () => {
  const publishable = "sb_publishable_0123456789abcdefghij";
  const secret = "sb_secret_0123456789abcdefghijklmn";
  let server;
  before(async () => {
    server = await start(["serve"], {
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: publishable }),
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: secret }),
    });
  });
  after(() => server?.stop());
  const sample = { userId: "test", targetDate: "2026-03-15", roommateId: "test2" };

  test("the publishable key is anonymous", async () => {
    const anonymous = client(server.url, publishable);
    const data = good(await anonymous.functions.invoke(recommendation(sample), { method: "GET" }));
    assert.equal(data.personalized, false);
    const status = (await refused(await anonymous.functions.invoke("user-archetype?userId=test", { method: "GET" }))).status;
    assert.equal(status, 401);
  });

  test("the secret key is the service, but not from a browser", async () => {
    const service = client(server.url, secret);
    const shown = good(await service.functions.invoke("user-archetype?userId=test", { method: "GET" }));
    assert.equal(shown.archetypeType, "average_user");
    const headers = { Origin: "https://app.example" };
    const leaked = await service.functions.invoke("user-archetype?userId=test", { method: "GET", headers });
    assert.equal((await refused(leaked)).status, 401);
  });

  test("a user's token goes with the publishable key", async () => {
    const token = await server.token("test");
    const user = client(server.url, publishable, { accessToken: async () => token });
    const shown = good(await user.functions.invoke("user-archetype?userId=test", { method: "GET" }));
    assert.equal(shown.userId, "test");
  });
});

test("a server that is not there is a FunctionsFetchError", async () => {
  const server = await start(["serve"]);
  const anonymous = client(server.url, server.anonKey);
  await server.stop();
  const { error } = await anonymous.functions.invoke("user-archetype?userId=x", { method: "GET" });
  assert.ok(error instanceof FunctionsFetchError, `${error}`);
});
