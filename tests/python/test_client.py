"""The official Python client, unmodified, against the built program on both engines."""

import json
import unittest

from postgrest.exceptions import APIError
from supabase import ClientOptions, create_client
from supabase_functions.errors import FunctionsHttpError

from server import Database, Server


class Reads:
    """The tests; each engine has a class of its own."""

    database = None

    @classmethod
    def setUpClass(cls):
        environment = {}
        if cls.database:
            cls.database = cls.database()
            environment["DATABASE_URL"] = cls.database.url
        cls.server = Server(environment)
        cls.me = cls.server.sample["userId"]
        cls.service = create_client(cls.server.url, cls.server.service_key)
        cls.anonymous = create_client(cls.server.url, cls.server.anon_key)
        headers = {"Authorization": f"Bearer {cls.server.token(cls.me)}"}
        cls.user = create_client(cls.server.url, cls.server.anon_key, ClientOptions(headers=headers))
        put = {"userId": cls.me, "archetypeType": "big_spender", "reason": "asked, by (support)"}
        cls.service.functions.invoke("user-archetype", {"method": "PUT", "body": put})
        cls.rows = cls.service.table("user_archetypes").select("*").order("user_id").execute().data
        assert len(cls.rows) == 200

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        if cls.database:
            cls.database.drop()

    def ids(self, query):
        return [row["user_id"] for row in query.order("user_id").execute().data]

    def both(self, filtered, condition):
        """Compares what a filter finds with what a condition finds in memory."""
        expected = [row["user_id"] for row in self.rows if condition(row)]
        self.assertEqual(self.ids(filtered(self.service.table("user_archetypes").select("user_id"))), expected)
        return len(expected)

    def refused(self, query):
        with self.assertRaises(APIError) as caught:
            query.execute()
        return caught.exception

    def test_comparisons(self):
        middle = self.rows[100]["user_id"]
        found = [
            self.both(lambda q: q.eq("user_id", middle), lambda row: row["user_id"] == middle),
            self.both(lambda q: q.neq("user_id", middle), lambda row: row["user_id"] != middle),
            self.both(lambda q: q.gt("user_id", middle), lambda row: row["user_id"] > middle),
            self.both(lambda q: q.gte("confidence", 0.6), lambda row: row["confidence"] >= 0.6),
            self.both(lambda q: q.lt("confidence", 0.6), lambda row: row["confidence"] < 0.6),
            self.both(lambda q: q.lte("user_id", middle), lambda row: row["user_id"] <= middle),
            self.both(lambda q: q.in_("override_reason", ["asked, by (support)"]), lambda row: row["user_id"] == self.me),
        ]
        self.assertTrue(all(found), found)

    def test_null_patterns_arrays_json_and_logic(self):
        line = next(row["reasoning"][0] for row in self.rows if row["reasoning"])
        acceptance = self.rows[0]["signals"]["acceptanceRate"]
        for filtered, condition in [
            (lambda q: q.is_("override_reason", "null"), lambda row: row["override_reason"] is None),
            (lambda q: q.not_.is_("override_reason", "null"), lambda row: row["override_reason"] is not None),
            (lambda q: q.is_("is_manual_override", True), lambda row: row["is_manual_override"]),
            (lambda q: q.like("user_id", "%7"), lambda row: row["user_id"].endswith("7")),
            (lambda q: q.ilike("user_id", "USER%7"), lambda row: row["user_id"].endswith("7")),
            (lambda q: q.contains("reasoning", [line]), lambda row: line in row["reasoning"]),
            (lambda q: q.overlaps("reasoning", [line]), lambda row: line in row["reasoning"]),
            (lambda q: q.contained_by("reasoning", [line]), lambda row: set(row["reasoning"]) <= {line}),
            (
                lambda q: q.contains("signals", {"acceptanceRate": acceptance}),
                lambda row: row["signals"]["acceptanceRate"] == acceptance,
            ),
            (lambda q: q.gt("signals->acceptanceRate", 0.5), lambda row: row["signals"]["acceptanceRate"] > 0.5),
            (
                lambda q: q.or_("archetype_type.eq.big_spender,confidence.gte.0.9"),
                lambda row: row["archetype_type"] == "big_spender" or row["confidence"] >= 0.9,
            ),
            (lambda q: q.match({"is_manual_override": True, "user_id": self.me}), lambda row: row["user_id"] == self.me),
            (lambda q: q.filter("confidence", "not.lt", 0.6), lambda row: row["confidence"] >= 0.6),
        ]:
            self.both(filtered, condition)

    def test_shapes_counts_and_ranges(self):
        table = self.service.table("user_archetypes")
        self.assertEqual(table.select("who:user_id").eq("user_id", self.me).single().execute().data, {"who": self.me})
        self.assertIsNone(table.select("user_id").eq("user_id", "nobody").maybe_single().execute())
        page = table.select("user_id", count="exact").order("user_id", desc=True).range(10, 19).execute()
        newest = [row["user_id"] for row in reversed(self.rows)]
        self.assertEqual([[row["user_id"] for row in page.data], page.count], [newest[10:20], 200])
        head = table.select("*", count="exact", head=True).execute()
        self.assertEqual((head.data, head.count), ([], 200))
        limited = table.select("user_id").order("confidence", desc=True, nullsfirst=False).limit(3).offset(1).execute()
        self.assertEqual(len(limited.data), 3)
        csv = table.select("user_id,confidence").eq("user_id", self.me).csv().execute().data
        self.assertEqual(csv, f"user_id,confidence\n{self.me},1.00")

    def test_a_user_reads_own_rows_and_an_anonymous_caller_none(self):
        self.assertEqual(self.ids(self.user.table("user_archetypes").select("user_id")), [self.me])
        self.assertEqual(self.user.table("admin_audit_log").select("*").execute().data, [])
        denied = self.refused(self.anonymous.table("user_archetypes").select("*"))
        self.assertEqual((denied.code, denied.message), ("42501", "permission denied for table user_archetypes"))

    def test_errors_have_code_and_message(self):
        table = self.service.table
        for query, code in [
            (table("nope").select("*"), "PGRST205"),
            (table("profiles").select("nope"), "42703"),
            (table("profiles").select("*,leases(*)"), "PGRST200"),
            (table("profiles").select("*").filter("id", "eqq", "x"), "PGRST100"),
            (table("user_archetypes").select("*").gt("confidence", "much"), "22P02"),
            (table("user_archetypes").select("*").gt("computed_at", "now"), "22007"),
            (table("user_archetypes").select("*").eq("user_id", "nobody").single(), "PGRST116"),
            (table("profiles").insert({"id": "x"}), "PGRST117"),
            (self.user.table("profiles").update({"role": "admin"}).eq("id", self.me), "42501"),
            (self.service.schema("auth").table("users").select("*"), "PGRST106"),
            (self.service.rpc("pg_sleep", {"seconds": 1}), "PGRST202"),
        ]:
            self.assertEqual(self.refused(query).code, code)

    def test_functions(self):
        sample = "&".join(f"{name}={value}" for name, value in self.server.sample.items())
        name = f"transaction-recommendations?{sample}"
        answer = json.loads(self.user.functions.invoke(name, {"method": "GET"}))
        self.assertTrue(answer["personalized"])
        outcome = {"recommendationId": answer["recommendationId"], "event": "viewed"}
        told = json.loads(self.user.functions.invoke("recommendation-outcomes", {"body": outcome}))
        self.assertEqual(told, {"success": True, "recorded": 1, "duplicates": 0})
        logged = self.user.table("recommendation_logs").select("user_id,rule").eq("id", answer["recommendationId"])
        self.assertEqual(logged.execute().data, [{"user_id": self.me, "rule": answer["metadata"]["rule"]}])
        with self.assertRaises(FunctionsHttpError) as caught:
            self.anonymous.functions.invoke(f"user-archetype?userId={self.me}", {"method": "GET"})
        self.assertEqual(caught.exception.status, 401)


class OnSqlite(Reads, unittest.TestCase):
    pass


class OnPostgresql(Reads, unittest.TestCase):
    database = Database


if __name__ == "__main__":
    unittest.main()
