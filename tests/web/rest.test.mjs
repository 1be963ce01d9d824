// The official client, unmodified, reads tables: every operator, shapes, counts, ranges, errors, on both engines.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

import { database } from "./database.mjs";
import { start } from "./server.mjs";

const realtime = globalThis.WebSocket ? {} : { transport: WebSocket };
const client = (url, key, options = {}) =>
  createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false }, realtime, ...options });

/** Gives the data of a read that must have succeeded. */
const good = ({ data, error, status }) => {
  assert.equal(error, null, error && `${status} ${error.code} ${error.message}`);
  return data;
};

/** Gives status and error of a read that must have been refused. */
const refused = ({ data, error, status }) => {
  assert.equal(data, null);
  assert.ok(error, "an error");
  for (const field of ["message", "code", "details", "hint"]) assert.ok(field in error, field);
  return { status, code: error.code, message: error.message };
};

const ids = (rows, name = "user_id") => rows.map((row) => row[name]);

for (const engine of ["SQLite", "PostgreSQL"]) {
  describe(`supabase-js reads tables on ${engine}`, () => {
    let server, db, anonymous, user, service, me, archetypes, requests;
    before(async () => {
      db = engine === "PostgreSQL" ? await database() : null;
      const environment = db ? { DATABASE_URL: db.url } : {};
      server = await start(["demo", "--people", "200"], environment);
      me = server.sample.userId;
      const token = await server.token(me);
      anonymous = client(server.url, server.anonKey);
      user = client(server.url, server.anonKey, { accessToken: async () => token });
      service = client(server.url, server.serviceKey);
      // One that an admin has set, so that there is something in every column.
      const put = { method: "PUT", body: { userId: me, archetypeType: "big_spender", reason: "asked, by (support)" } };
      good(await service.functions.invoke("user-archetype", put));
      archetypes = good(await service.from("user_archetypes").select().order("user_id"));
      requests = good(await service.from("date_change_requests").select().order("id"));
      assert.equal(archetypes.length, 200);
      assert.ok(requests.length > 100 && requests.length < 1000, `${requests.length}`);
    });
    after(async () => {
      await server?.stop();
      await db?.drop();
    });

    /** Reads the ids of archetypes with these filters, and of those that meet the condition in memory. */
    const both = async (filtered, condition) => {
      const found = good(await filtered(service.from("user_archetypes").select("user_id")).order("user_id"));
      const expected = ids(archetypes.filter(condition));
      assert.deepEqual(ids(found), expected);
      return expected.length;
    };

    test("every comparison finds what a filter in memory finds", async () => {
      const middle = archetypes[100].user_id;
      const some = [
        await both((q) => q.eq("user_id", middle), (row) => row.user_id === middle),
        await both((q) => q.neq("archetype_type", "average_user"), (row) => row.archetype_type !== "average_user"),
        await both((q) => q.gt("user_id", middle), (row) => row.user_id > middle),
        await both((q) => q.gte("confidence", 0.6), (row) => row.confidence >= 0.6),
        await both((q) => q.lt("confidence", 0.6), (row) => row.confidence < 0.6),
        await both((q) => q.lte("user_id", middle), (row) => row.user_id <= middle),
        await both((q) => q.gte("confidence", 0.5).lt("confidence", 0.9), ({ confidence: c }) => c >= 0.5 && c < 0.9),
        await both((q) => q.in("archetype_type", ["big_spender", "high_flexibility"]), (row) => row.archetype_type !== "average_user"),
        await both((q) => q.in("override_reason", ["asked, by (support)", "x"]), (row) => row.user_id === me),
        await both((q) => q.notIn("user_id", [me, middle]), (row) => ![me, middle].includes(row.user_id)),
        await both((q) => q.match({ policy: archetypes[0].policy, is_manual_override: true }), (row) => row.user_id === me),
      ];
      assert.ok(some.every((count) => count > 0), `${some}`);
    });

    test("null, truth and distinctness", async () => {
      await both((q) => q.is("override_reason", null), (row) => row.override_reason === null);
      await both((q) => q.is("is_manual_override", true), (row) => row.is_manual_override);
      await both((q) => q.is("is_manual_override", false), (row) => !row.is_manual_override);
      await both((q) => q.not("override_reason", "is", null), (row) => row.override_reason !== null);
      await both((q) => q.filter("override_reason", "is", "not_null"), (row) => row.override_reason !== null);
      await both((q) => q.filter("is_manual_override", "is", "unknown"), () => false);
      await both((q) => q.isDistinct("override_reason", "asked, by (support)"), (row) => row.user_id !== me);
    });

    test("patterns", async () => {
      await both((q) => q.like("user_id", "%1"), (row) => row.user_id.endsWith("1"));
      await both((q) => q.like("user_id", "user-00_0%"), (row) => /^user-00.0/.test(row.user_id));
      await both((q) => q.likeAllOf("user_id", ["user%", "%7"]), (row) => row.user_id.endsWith("7"));
      await both((q) => q.likeAnyOf("user_id", ["%3", "%7"]), (row) => /[37]$/.test(row.user_id));
      await both((q) => q.ilike("user_id", "USER-%2"), (row) => row.user_id.endsWith("2"));
      await both((q) => q.ilikeAllOf("user_id", ["USER%", "%4"]), (row) => row.user_id.endsWith("4"));
      await both((q) => q.ilikeAnyOf("user_id", ["%5", "NO"]), (row) => row.user_id.endsWith("5"));
      await both((q) => q.regexMatch("user_id", "0[1-3]$"), (row) => /0[1-3]$/.test(row.user_id));
      await both((q) => q.regexIMatch("user_id", "^USER-.*9$"), (row) => row.user_id.endsWith("9"));
    });

    test("arrays and JSON", async () => {
      const [line] = archetypes.find((row) => row.reasoning.length > 1).reasoning;
      // The client quotes no element of an array.
      const element = JSON.stringify(line);
      const has = (row) => row.reasoning.includes(line);
      assert.ok((await both((q) => q.contains("reasoning", [element]), has)) > 0);
      await both((q) => q.overlaps("reasoning", [element, "nothing"]), has);
      await both((q) => q.containedBy("reasoning", [element]), (row) => row.reasoning.every((text) => text === line));
      const { buyoutPreference } = archetypes[0].signals;
      const alike = (row) => row.signals.buyoutPreference === buyoutPreference;
      await both((q) => q.contains("signals", { buyoutPreference }), alike);
      await both((q) => q.eq("signals->buyoutPreference", buyoutPreference), alike);
      await both((q) => q.gt("signals->acceptanceRate", 0.5), (row) => row.signals.acceptanceRate > 0.5);
      await both((q) => q.containedBy("signals", archetypes[0].signals), (row) => {
        return Object.entries(row.signals).every(([name, value]) => archetypes[0].signals[name] === value);
      });
    });

    test("logic", async () => {
      const spends = ({ archetype_type: type }) => type === "big_spender";
      await both((q) => q.or("archetype_type.eq.big_spender,confidence.gte.0.9"), (row) => spends(row) || row.confidence >= 0.9);
      await both(
        (q) => q.or("and(archetype_type.eq.big_spender,confidence.gte.0.6),user_id.in.(user-000001,user-000002)"),
        (row) => (spends(row) && row.confidence >= 0.6) || ["user-000001", "user-000002"].includes(row.user_id),
      );
      await both((q) => q.not("archetype_type", "in", "(big_spender,average_user)"), (row) => row.archetype_type === "high_flexibility");
      await both((q) => q.filter("confidence", "not.lt", "0.6"), (row) => row.confidence >= 0.6);
      await both((q) => q.or('override_reason.eq."asked, by (support)",user_id.eq.user-000003'), (row) => row.user_id === me || row.user_id === "user-000003");
    });

    test("columns, aliases, casts and ways into JSON", async () => {
      const select = "who:user_id, confidence::text, signals->acceptanceRate, rate:signals->>acceptanceRate, first:reasoning->0";
      const row = good(await service.from("user_archetypes").select(select).eq("user_id", me).single());
      const whole = archetypes.find((one) => one.user_id === me);
      assert.deepEqual(row, {
        who: me,
        confidence: "1.00",
        acceptanceRate: whole.signals.acceptanceRate,
        rate: row.rate,
        first: whole.reasoning[0] ?? null,
      });
      assert.equal(Number(row.rate), whole.signals.acceptanceRate);
      assert.match(whole.computed_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00$/);
    });

    test("orders", async () => {
      const read = (query) => query.limit(1000);
      const newest = good(await read(service.from("date_change_requests").select("id,created_at").order("created_at", { ascending: false })));
      const times = newest.map((row) => Date.parse(row.created_at));
      assert.deepEqual(times, [...times].sort((a, b) => b - a));
      const by = await read(
        service.from("date_change_requests").select("id,responded_at,proposed_price").lte("id", requests[99].id)
          .order("responded_at", { ascending: true, nullsFirst: true }).order("proposed_price", { ascending: false, nullsFirst: false }).order("id"),
      );
      const key = (row) => [row.responded_at === null ? 0 : 1, row.responded_at ?? "", row.proposed_price === null ? 1 : 0, -(row.proposed_price ?? 0), row.id];
      const rows = good(by);
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        const n = x.findIndex((part, i) => part !== y[i]);
        return n < 0 ? 0 : x[n] < y[n] ? -1 : 1;
      });
      assert.equal(rows.length, 100);
      assert.deepEqual(ids(rows, "id"), ids(sorted, "id"));
    });

    test("single and maybeSingle", async () => {
      const one = service.from("user_archetypes").select("user_id");
      assert.deepEqual(good(await one.eq("user_id", me).single()), { user_id: me });
      const none = () => service.from("user_archetypes").select("user_id").eq("user_id", "nobody");
      assert.equal(good(await none().maybeSingle()), null);
      const missing = refused(await none().single());
      assert.deepEqual(missing, { status: 406, code: "PGRST116", message: "Cannot coerce the result to a single JSON object" });
      const several = await service.from("user_archetypes").select("user_id").limit(2).single();
      assert.equal(refused(several).code, "PGRST116");
      assert.match(several.error.details, /2 rows/);
      assert.equal(refused(await service.from("user_archetypes").select().limit(2).maybeSingle()).code, "PGRST116");
    });

    test("counts, ranges and heads", async () => {
      const table = () => service.from("user_archetypes");
      for (const count of ["exact", "estimated"]) {
        const { data, count: counted, status } = await table().select("user_id", { count }).order("user_id").range(10, 19);
        assert.deepEqual(ids(data), ids(archetypes.slice(10, 20)));
        assert.deepEqual([counted, status], [200, 206]);
      }
      const planned = await table().select("user_id", { count: "planned" }).limit(1);
      assert.ok(planned.count > 0);
      const head = await table().select("*", { count: "exact", head: true });
      assert.deepEqual([head.data, head.error, head.count, head.status], [null, null, 200, 200]);
      const some = await table().select("*", { count: "exact", head: true }).eq("user_id", me);
      assert.equal(some.count, 1);
      const none = await table().select("*", { count: "exact" }).eq("user_id", "nobody");
      assert.deepEqual([none.data, none.count, none.status], [[], 0, 200]);
      const past = await table().select("*", { count: "exact" }).range(500, 510);
      assert.deepEqual([past.status, past.error.code], [416, "PGRST103"]);
      assert.deepEqual(good(await table().select().range(500, 510)), []);
    });

    test("csv and stripped nulls", async () => {
      const csv = good(await service.from("user_archetypes").select("user_id,confidence,override_by").eq("user_id", me).csv());
      assert.equal(csv, `user_id,confidence,override_by\n${me},1.00,service_role`);
      const stripped = good(await service.from("user_archetypes").select("user_id,override_by").neq("user_id", me).limit(1).stripNulls());
      assert.deepEqual(Object.keys(stripped[0]), ["user_id"]);
    });

    test("a user reads own rows, and an anonymous caller none", async () => {
      assert.deepEqual(ids(good(await user.from("user_archetypes").select())), [me]);
      const mine = good(await user.from("date_change_requests").select());
      assert.ok(mine.length > 0 && mine.every((row) => [row.requester_id, row.receiver_id].includes(me)));
      const { data, count } = await user.from("recommendation_logs").select("user_id", { count: "exact" });
      assert.ok(data.every((row) => row.user_id === me) && count === data.length);
      assert.deepEqual(good(await user.from("admin_audit_log").select()), []);
      assert.deepEqual(good(await service.from("admin_audit_log").select("action")), [{ action: "override_archetype" }]);
      const denied = refused(await anonymous.from("user_archetypes").select());
      assert.deepEqual(denied, { status: 401, code: "42501", message: "permission denied for table user_archetypes" });
    });

    test("errors arrive with status, code and message", async () => {
      const from = (table, select) => service.from(table).select(select);
      assert.deepEqual(refused(await from("nope")), { status: 404, code: "PGRST205", message: "Could not find the table 'public.nope' in the schema cache" });
      assert.deepEqual(refused(await from("profiles", "nope")), { status: 400, code: "42703", message: "column profiles.nope does not exist" });
      assert.equal(refused(await from("profiles", "id,leases(*)")).code, "PGRST200");
      assert.equal(refused(await from("profiles", "count()")).code, "PGRST123");
      assert.equal(refused(await from("profiles").filter("id", "eqq", "x")).code, "PGRST100");
      assert.equal(refused(await from("user_archetypes").gt("confidence", "much")).code, "22P02");
      assert.equal(refused(await from("user_archetypes").gt("computed_at", "yesterday")).code, "22007");
      assert.equal(refused(await from("recommendation_logs").eq("nps_score", 2 ** 40)).code, "22003");
      assert.equal(refused(await service.schema("auth").from("users").select()).code, "PGRST106");
      assert.equal(refused(await service.rpc("pg_sleep", { seconds: 1 })).code, "PGRST202");
      assert.deepEqual([(await user.from("profiles").insert({ id: "x" })).error.code, (await user.from("profiles").delete().eq("id", me)).status], ["42501", 403]);
      assert.equal((await anonymous.from("profiles").update({ role: "admin" }).eq("id", me)).status, 401);
      const written = await service.from("profiles").upsert({ id: "x" });
      assert.deepEqual([written.status, written.error.code], [405, "PGRST117"]);
      const bad = client(server.url, server.anonKey, { accessToken: async () => `${server.anonKey}x` });
      assert.deepEqual([(await bad.from("profiles").select()).status, (await bad.from("profiles").select()).error.code], [401, "PGRST301"]);
      await assert.rejects(async () => from("nope").throwOnError(), { code: "PGRST205" });
    });

    test("a read can be given up", async () => {
      const controller = new AbortController();
      controller.abort();
      const { error } = await service.from("user_archetypes").select().abortSignal(controller.signal);
      assert.match(error.message, /abort/i);
      assert.equal(good(await service.from("user_archetypes").select("user_id").limit(1)).length, 1);
    });
  });
}

test("publishable and secret keys read tables as the legacy keys do", async () => {
  const publishable = "sb_publishable_0123456789abcdefghij";
  const secret = "sb_secret_0123456789abcdefghijklmn";
  const server = await start(["serve"], {
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: publishable }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: secret }),
  });
  try {
    assert.deepEqual(good(await client(server.url, secret).from("profiles").select()), []);
    assert.equal(refused(await client(server.url, publishable).from("profiles").select()).status, 401);
    const token = await server.token("test");
    const user = client(server.url, publishable, { accessToken: async () => token });
    assert.deepEqual(good(await user.from("profiles").select()), []);
  } finally {
    await server.stop();
  }
});
