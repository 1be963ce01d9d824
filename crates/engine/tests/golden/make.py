#!/usr/bin/env python3
"""Writes the golden cases of the engine beside this file: signals.json, classify.json, decide.json.

A second implementation of the domain specification, in exact arithmetic (fractions, integers) and nothing but the
standard library, written from the text and not from the Rust code. Running it twice gives the same bytes:

    python3 crates/engine/tests/golden/make.py
"""

import json
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction as F
from pathlib import Path

HERE = Path(__file__).parent
TYPES = ["buyout", "crash", "swap"]
ARCHETYPES = ["big_spender", "high_flexibility", "average_user"]


def half_up(value):
    """Rounds to a whole number, a half upwards."""
    return (value + F(1, 2)).__floor__()


# --- section 2: signals ------------------------------------------------------------------------------------------

NOW = datetime(2026, 3, 15, 12, 0, 0, 500_000, tzinfo=timezone.utc)
SIGNALS = [
    "avgTransactionValue", "willingnessToPay", "priceRejectionRate", "avgResponseTimeHours", "acceptanceRate",
    "requestFrequencyPerMonth", "buyoutPreference", "crashPreference", "swapPreference", "flexibilityScore",
    "accommodationHistory", "reciprocityRatio",
]
NO_DATA = dict(zip(SIGNALS, map(F, ["0", "0.5", "0.5", "24", "0.5", "0", "0.33", "0.33", "0.34", "50", "0", "1"])))


def mean(values, otherwise):
    return sum(values, F(0)) / len(values) if values else otherwise


def signals_of(rows):
    newest = sorted(rows, key=lambda r: (r["created"], r["id"]), reverse=True)[:50]
    if not newest:
        return dict(NO_DATA)
    asked = [r for r in newest if r["role"] == "requester"]
    got = [r for r in newest if r["role"] == "receiver"]
    ok = lambda rows: [r for r in rows if r["status"] == "accepted"]
    priced = lambda rows: [r for r in rows if r["type"] != "swap" and r["proposed"] is not None]

    def ratio(r):
        return F(r["proposed"], r["base"]) if r["base"] else F(1)

    def price_rejected(r):
        return r["status"] == "rejected" and r["base"] and r["proposed"] * 10 > r["base"] * 12

    hours = [F((r["responded"] - r["created"]) // timedelta(microseconds=1), 3_600_000_000) for r in got if r["responded"]]
    since = NOW - timedelta(days=90)
    lately = [r for r in asked if since <= r["created"] <= NOW]
    acceptance = F(len(ok(got)), len(got)) if got else F(1, 2)
    share = lambda kind: F(sum(r["type"] == kind for r in asked), len(asked)) if asked else F(0)
    received, given = len(ok(got)), len(ok(asked))
    return {
        "avgTransactionValue": mean([F(r["proposed"], 100) for r in priced(ok(newest))], F(0)),
        "willingnessToPay": min(F(1), max(F(0), mean([min(ratio(r), F(2)) for r in priced(asked)], F(1)) / 2)),
        "priceRejectionRate": F(sum(1 for r in priced(asked) if price_rejected(r)), len(asked)) if asked else F(0),
        "avgResponseTimeHours": max(F(1, 10), mean(hours, F(24))),
        "acceptanceRate": acceptance,
        "requestFrequencyPerMonth": F(len(lately), 3),
        "buyoutPreference": share("buyout"),
        "crashPreference": share("crash"),
        "swapPreference": share("swap"),
        "flexibilityScore": F(min(100, half_up(40 * acceptance + 30 * share("swap") + F(30 * len(got), max(len(asked), 1))))),
        "accommodationHistory": F(received),
        "reciprocityRatio": F(received, given) if given else (F(received) if received else F(1)),
    }


# --- section 3: archetype ----------------------------------------------------------------------------------------

TABLE = [  # signal, big_spender (side, threshold, points), high_flexibility (the same)
    ("avgTransactionValue", (">", "1000", 30), ("<", "300", 20)),
    ("willingnessToPay", (">", "0.7", 25), ("<", "0.4", 25)),
    ("priceRejectionRate", ("<", "0.3", 15), (">", "0.6", 20)),
    ("avgResponseTimeHours", (">", "3", 15), ("<", "2", 25)),
    ("acceptanceRate", ("<", "0.5", 15), (">", "0.7", 20)),
    ("requestFrequencyPerMonth", (">", "2", 10), None),
    ("flexibilityScore", ("<", "40", 20), (">", "70", 30)),
    ("accommodationHistory", None, (">", "10", 15)),
    ("reciprocityRatio", ("<", "0.5", 10), (">", "1.5", 15)),
    ("buyoutPreference", (">", "0.6", 10), None),
    ("swapPreference", None, (">", "0.5", 10)),
]


def classify(signals):
    scores = {"big_spender": 0, "high_flexibility": 0, "average_user": 50}
    rows = []
    for name, *cells in TABLE:
        for archetype, cell in zip(ARCHETYPES, cells):
            if cell is None:
                continue
            side, threshold, points = cell
            value = signals[name]
            if value > F(threshold) if side == ">" else value < F(threshold):
                scores[archetype] += points
                rows.append({"signal": name, "value": float(value), "side": "above" if side == ">" else "below",
                             "threshold": float(F(threshold)), "points": points, "archetype": archetype})
    first, second = sorted(scores.values(), reverse=True)[:2]
    winner = [a for a in ARCHETYPES if scores[a] == first][-1]
    confidence = min(F("0.95"), max(F("0.4"), F(1, 2) + F(first - second, 100)))
    if is_new(signals):
        confidence = min(confidence, F("0.6"))
    return {"archetype": winner, "confidence": float(confidence), "scores": scores, "rows": rows}


def is_new(signals):
    return signals["avgTransactionValue"] == 0 and signals["requestFrequencyPerMonth"] == 0


# --- sections 4 to 7: decision -----------------------------------------------------------------------------------

ORDERS = {
    "new_user": (["crash", "swap", "buyout"], "0.40"),
    "big_spender_urgent": (["buyout", "crash", "swap"], "0.85"),
    "big_spender_relaxed": (["buyout", "crash", "swap"], "0.72"),
    "flexible_swap": (["swap", "crash", "buyout"], "0.78"),
    "average_relaxed": (["swap", "crash", "buyout"], "0.65"),
    "average_medium": (["crash", "swap", "buyout"], "0.70"),
    "average_urgent": (["crash", "buyout", "swap"], "0.75"),
}
ACCEPTANCE = {  # by the roommate's archetype, in the order of ARCHETYPES
    "buyout": ["0.75", "0.45", "0.60"],
    "crash": ["0.50", "0.70", "0.65"],
    "swap": ["0.35", "0.80", "0.60"],
}


def urgency(days):
    for level, last, multiplier in [("CRITICAL", 3, "1.5"), ("HIGH", 7, "1.25"), ("MEDIUM", 14, "1.1")]:
        if days <= last:
            return level, F(multiplier)
    return "LOW", F(1)


def rule_of(archetype, history, days):
    if history == 0:
        return "new_user"
    if archetype == "big_spender":
        return "big_spender_urgent" if days <= 14 else "big_spender_relaxed"
    if archetype == "high_flexibility":
        return "flexible_swap"
    return "average_relaxed" if days > 21 else "average_urgent" if days < 7 else "average_medium"


def quote(kind, base_cents, multiplier, demand_units):
    """Gives price and fee in dollars."""
    demand = min(F("1.4"), max(F("0.7"), F(demand_units, 10_000)))
    night = F(base_cents, 100) * multiplier * demand
    if kind == "swap":
        return 0, 5
    if kind == "crash":
        return half_up(F("0.18") * night), 5
    price = half_up(night)
    return price, half_up(F("0.015") * price)


def decide(snapshot):
    given = snapshot["daysUntilCheckIn"]
    days = max(given, 0)
    level, multiplier = urgency(days)
    personal = snapshot["audience"].get("personal")
    rule = rule_of(personal["requester"]["archetype"], personal["history"]["priorRequests"], days) if personal else "new_user"
    night = snapshot["night"]
    order, confidence = ORDERS[rule]
    options = []
    buyout_total = sum(quote("buyout", night["basePriceCents"], multiplier, night["demandTenThousandths"]))
    for place, kind in enumerate(order):
        price, fee = quote(kind, night["basePriceCents"], multiplier, night["demandTenThousandths"])
        receives = 0 if kind == "swap" else max(0, price - fee)
        savings = None if kind == "buyout" else buyout_total - price - fee
        reasons = []
        if place == 0:
            reasons.append("rule_" + rule if personal else "rule_neutral_default")
            if given < 0:
                reasons.append("overdue")
        reasons.append({"buyout": "buyout_price", "crash": "crash_share", "swap": "swap_no_price"}[kind])
        if savings is not None and savings > 0:
            reasons.append("savings_vs_buyout")
        matches = None
        if personal is None:
            accepts, probability = F("0.40"), F("0.20")
        else:
            if kind == "swap":
                matches = personal["offerableNights"]
            if matches is not None:
                reasons.append("offerable_nights" if matches else "no_offerable_nights")
            mate = personal["roommate"]
            known = {name: F(repr(value)) for name, value in mate["signals"].items()}
            preference = known[kind + "Preference"]
            new = is_new(known) and not mate["overridden"]
            if new:
                accepts = F("0.40")
            else:
                accepts = F(ACCEPTANCE[kind][ARCHETYPES.index(mate["archetype"])])
                if preference > F(1, 2):
                    accepts += F("0.4") * (preference - F(1, 2))
                    reasons.append("roommate_prefers")
                accepts = min(F("0.95"), max(F("0.2"), accepts))
            if known["accommodationHistory"] > 0:
                reasons.append("roommate_acceptance_rate")
            repeated = personal["history"]["last"] == {"transactionType": kind, "accepted": True}
            if repeated:
                reasons.append("last_request_accepted")
            probability = min(F("0.95"), accepts * known["acceptanceRate"] * (F("1.15") if repeated else 1))
        options.append({
            "type": kind, "price": price, "platformFee": fee, "totalCost": price + fee, "roommateReceives": receives,
            "platformReceives": price + fee - receives, "savingsVsBuyout": savings, "confidence": float(accepts),
            "probability": float(probability), "potentialMatches": matches, "reasons": reasons,
        })
    return {
        "rule": rule, "confidence": float(F(confidence)), "days": days, "overdue": given < 0, "level": level,
        "multiplier": float(multiplier), "isWeekday": date.fromisoformat(snapshot["targetDate"]).isoweekday() <= 5,
        "marketDemand": float(min(F("1.4"), max(F("0.7"), F(night["demandTenThousandths"], 10_000)))),
        "pricingSource": night["pricingSource"], "personalized": personal is not None,
        "archetype": personal["requester"]["archetype"] if personal else "average_user",
        "archetypeConfidence": personal["requester"]["confidence"] if personal else 0.4,
        "roommateArchetype": personal["roommate"]["archetype"] if personal else None,
        "options": options,
    }


# --- the cases: signals ------------------------------------------------------------------------------------------

def rq(role, kind, status, proposed=None, base=None, ago=timedelta(days=1), response=None, id=None):
    """One row; prices in cents, `ago` before NOW, `response` after creation."""
    created = NOW - ago
    return {"id": id, "role": role, "type": kind, "status": status, "proposed": proposed, "base": base,
            "created": created, "responded": None if response is None else created + response}


def asked(kind, status, proposed=None, base=None, **more):
    return rq("requester", kind, status, proposed, base, **more)


def got(kind, status, proposed=None, base=None, **more):
    return rq("receiver", kind, status, proposed, base, **more)


def times(count, make):
    return [make(i) for i in range(count)]


def days(n):
    return timedelta(days=n)


def hours(n):
    return timedelta(seconds=round(n * 3600))


def wire_time(t):
    return None if t is None else t.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def signals_cases():
    cases = {}
    cases["no request at all"] = []
    # The window of the request frequency.
    cases["asked exactly 90 days ago counts"] = [asked("crash", "pending", 3000, 15000, ago=days(90))]
    cases["asked 90 days and a microsecond ago does not count"] = [asked("crash", "pending", 3000, 15000, ago=days(90) + timedelta(microseconds=1))]
    cases["asked 90 days and 0.3 seconds ago does not count"] = [asked("crash", "pending", 3000, 15000, ago=days(90) + timedelta(milliseconds=300))]
    cases["asked 90 days less a microsecond ago counts"] = [asked("crash", "pending", 3000, 15000, ago=days(90) - timedelta(microseconds=1))]
    cases["asked right now counts"] = [asked("crash", "pending", 3000, 15000, ago=days(0))]
    cases["a request dated after now is not one of the last 90 days"] = [asked("crash", "pending", 3000, 15000, ago=-days(1))]
    cases["six requests in 90 days are two a month, not more than two"] = times(6, lambda i: asked("crash", "cancelled", 3000, 15000, ago=days(i)))
    cases["seven requests in 90 days are more than two a month"] = times(7, lambda i: asked("crash", "cancelled", 3000, 15000, ago=days(i)))
    cases["received requests have no frequency"] = times(9, lambda i: got("crash", "pending", 3000, 15000, ago=days(i)))
    # One row of every status, on either side.
    for status in ["pending", "accepted", "rejected", "expired", "cancelled"]:
        cases[f"one asked buyout, {status}"] = [asked("buyout", status, 20000, 15000, ago=days(3), response=hours(5))]
        cases[f"one received buyout, {status}"] = [got("buyout", status, 20000, 15000, ago=days(3), response=hours(5))]
    # Average transaction value.
    cases["value is the mean over accepted, asked and received"] = [
        asked("buyout", "accepted", 100_000, 90_000), got("crash", "accepted", 5_000, 25_000),
        asked("buyout", "rejected", 999_900, 90_000), got("buyout", "expired", 999_900, 90_000)]
    cases["a value of exactly 1000 is not above it"] = times(3, lambda i: asked("buyout", "accepted", [99_900, 100_000, 100_100][i], 100_000))
    cases["a value one cent above 1000 over three"] = times(3, lambda i: asked("buyout", "accepted", [99_900, 100_000, 100_101][i], 100_000))
    cases["a value of exactly 300 is not below it"] = times(7, lambda i: asked("buyout", "accepted", 30_000, 30_000))
    cases["a value one cent below 300 over seven"] = times(7, lambda i: asked("buyout", "accepted", 30_000 - (i == 3), 30_000))
    cases["swaps are left out of the value even with a price in the row"] = [
        asked("swap", "accepted", 777_700, 15_000), got("swap", "accepted", 888_800, 15_000), asked("buyout", "accepted", 40_000, 40_000)]
    cases["swaps with a price and nothing else have no value"] = [asked("swap", "accepted", 777_700, 15_000), got("swap", "accepted", 888_800, 15_000)]
    cases["an accepted buyout without a price is left out of the value"] = [asked("buyout", "accepted"), got("crash", "accepted", 6_000, 30_000)]
    cases["an accepted price of zero is a priced transaction"] = [asked("crash", "accepted", 0, 15_000), got("crash", "accepted", 6_000, 30_000)]
    # Willingness to pay.
    cases["willingness: the ratio is capped at 2"] = [asked("buyout", "pending", 90_000, 10_000), asked("buyout", "pending", 10_000, 10_000)]
    cases["willingness: a missing base price is ratio 1"] = [asked("buyout", "pending", 90_000, None), asked("buyout", "pending", 5_000, 10_000)]
    cases["willingness: a zero base price is ratio 1"] = [asked("buyout", "pending", 90_000, 0), asked("buyout", "pending", 5_000, 10_000)]
    cases["willingness: a swap with a price in the row is left out"] = [asked("swap", "rejected", 90_000, 10_000), asked("buyout", "pending", 5_000, 10_000)]
    cases["willingness: a row without a proposed price is left out"] = [asked("buyout", "pending", None, 10_000), asked("buyout", "pending", 5_000, 10_000)]
    cases["willingness: nothing priced asked"] = [asked("swap", "pending"), asked("buyout", "pending", None, 10_000)]
    cases["willingness: received prices do not count"] = [asked("crash", "pending", 5_000, 10_000), got("buyout", "pending", 90_000, 10_000)]
    cases["willingness: a proposed price of zero counts as 0"] = [asked("crash", "pending", 0, 10_000), asked("crash", "pending", 5_000, 10_000)]
    for count in [1, 3, 6, 9, 12, 48, 50]:
        cases[f"willingness: {count} at ratio 1.4 are exactly 0.7, not above it"] = times(count, lambda i: asked("buyout", "pending", 14_000, 10_000, ago=hours(i)))
        cases[f"willingness: {count} at ratio 0.8 are exactly 0.4, not below it"] = times(count, lambda i: asked("buyout", "pending", 8_000, 10_000, ago=hours(i)))
    cases["willingness: one cent above ratio 1.4 among six"] = times(6, lambda i: asked("buyout", "pending", 14_000 + (i == 2), 10_000, ago=hours(i)))
    cases["willingness: one cent below ratio 0.8 among six"] = times(6, lambda i: asked("buyout", "pending", 8_000 - (i == 2), 10_000, ago=hours(i)))
    cases["willingness: thirds and sevenths"] = [asked("buyout", "pending", 10_000, 30_000), asked("crash", "pending", 10_000, 70_000), asked("crash", "pending", 20_000, 30_000)]
    # Price rejection rate.
    cases["rejected at exactly 1.2 times the base price is not one of price"] = [asked("buyout", "rejected", 12_000, 10_000), asked("buyout", "pending", 12_000, 10_000)]
    cases["rejected one cent above 1.2 times the base price is"] = [asked("buyout", "rejected", 12_001, 10_000), asked("buyout", "pending", 12_001, 10_000)]
    cases["rejected above 1.2 with a base of odd cents"] = [asked("buyout", "rejected", 12_006, 10_004), asked("crash", "rejected", 12_005, 10_004), asked("crash", "rejected", 12_004, 10_004)]
    cases["rejected without a base price is not one of price"] = [asked("buyout", "rejected", 99_000, None), asked("buyout", "rejected", None, 10_000)]
    cases["expired and cancelled high prices are no rejections"] = [asked("buyout", "expired", 99_000, 10_000), asked("buyout", "cancelled", 99_000, 10_000)]
    cases["received rejections at a high price do not count"] = [got("buyout", "rejected", 99_000, 10_000), asked("buyout", "pending", 10_000, 10_000)]
    cases["a rejected swap with a high price in the row does not count"] = [asked("swap", "rejected", 99_000, 10_000), asked("buyout", "rejected", 99_000, 10_000)]
    cases["price rejections are a share of all asked, swaps included"] = times(3, lambda i: asked("buyout", "rejected", 20_000, 10_000)) + times(7, lambda i: asked("swap", "pending"))
    cases["three price rejections of five are exactly 0.6"] = times(3, lambda i: asked("buyout", "rejected", 20_000, 10_000)) + times(2, lambda i: asked("crash", "accepted", 2_000, 10_000))
    # Response time.
    cases["responses: the mean over received that have one"] = [got("crash", "accepted", 3_000, 15_000, response=hours(2)), got("crash", "rejected", 3_000, 15_000, response=hours(5)), got("crash", "pending", 3_000, 15_000)]
    cases["responses: pending ones with a response count too"] = [got("crash", "pending", 3_000, 15_000, response=hours(1)), got("swap", "expired", response=hours(2))]
    cases["responses: at least 0.1 hours"] = [got("crash", "accepted", 3_000, 15_000, response=timedelta(seconds=1))]
    cases["responses: at once"] = [got("crash", "accepted", 3_000, 15_000, response=timedelta(0))]
    cases["responses: exactly 0.1 hours"] = [got("crash", "accepted", 3_000, 15_000, response=timedelta(minutes=6))]
    cases["responses: exactly 2 hours is not below it"] = times(3, lambda i: got("crash", "accepted", 3_000, 15_000, response=hours([1, 2, 3][i])))
    cases["responses: exactly 3 hours is not above it"] = times(7, lambda i: got("crash", "accepted", 3_000, 15_000, response=hours(3)))
    cases["responses: microseconds count"] = [got("crash", "accepted", 3_000, 15_000, response=hours(3) + timedelta(microseconds=1))]
    cases["responses: asked requests do not count"] = [asked("crash", "accepted", 3_000, 15_000, response=hours(1)), got("crash", "pending", 3_000, 15_000)]
    # Acceptance, reciprocity, accommodation.
    cases["acceptance: pending and expired are in the denominator"] = [got("swap", s) for s in ["accepted", "pending", "expired", "cancelled", "rejected"]]
    cases["acceptance: seven of ten is exactly 0.7"] = times(10, lambda i: got("swap", "accepted" if i < 7 else "pending"))
    cases["acceptance: half is exactly 0.5"] = times(10, lambda i: got("swap", "accepted" if i < 5 else "rejected"))
    cases["history but nothing asked"] = [got("buyout", "accepted", 20_000, 15_000, response=hours(4)), got("swap", "rejected", response=hours(1))]
    cases["reciprocity: none and none is 1"] = [asked("swap", "pending"), got("swap", "pending")]
    cases["reciprocity: n and none is n"] = times(3, lambda i: got("swap", "accepted")) + [asked("swap", "pending")]
    cases["reciprocity: none and n is 0"] = times(3, lambda i: asked("swap", "accepted")) + [got("swap", "pending")]
    cases["reciprocity: three over two is exactly 1.5"] = times(3, lambda i: got("swap", "accepted")) + times(2, lambda i: asked("swap", "accepted"))
    cases["reciprocity: one over two is exactly 0.5"] = [got("swap", "accepted")] + times(2, lambda i: asked("swap", "accepted"))
    cases["reciprocity: one over three is below 0.5"] = [got("swap", "accepted")] + times(3, lambda i: asked("swap", "accepted"))
    cases["accommodation: ten accepted is not above ten"] = times(10, lambda i: got("crash", "accepted", 3_000, 15_000)) + times(20, lambda i: asked("crash", "accepted", 3_000, 15_000))
    cases["accommodation: eleven accepted is"] = times(11, lambda i: got("crash", "accepted", 3_000, 15_000)) + times(20, lambda i: asked("crash", "accepted", 3_000, 15_000))
    # Preferences.
    cases["preferences are shares of all asked"] = [asked("buyout", "pending", 20_000, 15_000), asked("crash", "pending", 3_000, 15_000), asked("swap", "pending"), asked("swap", "cancelled"), got("buyout", "pending", 1, 1)]
    cases["three buyouts of five are exactly 0.6"] = times(3, lambda i: asked("buyout", "pending", 15_000, 15_000)) + times(2, lambda i: asked("crash", "pending", 3_000, 15_000))
    cases["one swap of two is exactly 0.5"] = [asked("swap", "pending"), asked("crash", "pending", 3_000, 15_000)]
    # Flexibility score: exact, half up, at most 100.
    cases["flexibility: capped at 100"] = times(20, lambda i: got("swap", "accepted")) + [asked("swap", "accepted")]
    cases["flexibility: received without asked divides by one"] = [got("crash", "rejected", 3_000, 15_000), got("crash", "rejected", 3_000, 15_000)]
    cases["flexibility: a half is rounded up"] = times(15, lambda i: got("crash", "rejected", 3_000, 15_000)) + [got("crash", "accepted", 3_000, 15_000)] + times(30, lambda i: asked("crash", "pending", 3_000, 15_000))
    for n_asked, n_got, swaps, accepted in [(9, 16, 2, 1), (18, 16, 8, 9), (18, 16, 14, 5), (18, 32, 1, 2), (18, 16, 17, 3)]:
        cases[f"flexibility: exactly a half from {n_asked} asked ({swaps} swaps) and {n_got} received ({accepted} accepted)"] = (
            times(n_got, lambda i: got("crash", "accepted" if i < accepted else "pending", 3_000, 15_000))
            + times(n_asked, lambda i: asked("swap", "pending") if i < swaps else asked("crash", "pending", 3_000, 15_000)))
    cases["flexibility: exactly 40 is not below it"] = times(4, lambda i: got("crash", "pending", 3_000, 15_000)) + times(3, lambda i: asked("crash", "pending", 3_000, 15_000))
    cases["flexibility: exactly 70 is not above it"] = [got("crash", "accepted", 3_000, 15_000), asked("crash", "pending", 3_000, 15_000)]
    # The newest fifty.
    old = [asked("buyout", "accepted", 900_000, 100_000, ago=days(60) + hours(i)) for i in range(10)]
    cases["more than fifty: older ones do not count"] = [got("swap", "accepted", ago=hours(i), response=timedelta(hours=1)) for i in range(50)] + old
    cases["exactly fifty: all count"] = [got("swap", "accepted", ago=hours(i), response=timedelta(hours=1)) for i in range(40)] + old
    cases["fifty-one: the oldest is left out whatever its side"] = [asked("crash", "pending", 3_000, 15_000, ago=hours(i + 1)) for i in range(49)] + [got("swap", "accepted", ago=days(30)), got("swap", "rejected", ago=days(31))]
    tie = [asked("crash", "pending", 3_000, 15_000, ago=hours(i + 1), id=f"m{i:02}") for i in range(49)]
    cases["a tie of time at the fiftieth place: the greater id stays"] = tie + [asked("swap", "pending", ago=days(30), id="a"), asked("buyout", "pending", 30_000, 15_000, ago=days(30), id="z")]
    cases["a tie of time at the fiftieth place: the greater id stays, given first"] = [asked("buyout", "pending", 30_000, 15_000, ago=days(30), id="z"), asked("swap", "pending", ago=days(30), id="a")] + tie
    cases["all at the same time: the fifty greatest ids"] = [asked(TYPES[i % 3], "pending", None if i % 3 == 2 else 3_000 + i, 15_000, id=f"{(i * 37) % 60:02}") for i in range(60)]
    # Whole people.
    cases["a big spender"] = times(8, lambda i: asked("buyout", "accepted", 180_000, 120_000, ago=days(i))) + times(4, lambda i: got("crash", "rejected", 3_000, 15_000, response=hours(9)))
    cases["a flexible person"] = times(12, lambda i: got("swap", "accepted", response=hours(1), ago=days(i))) + times(4, lambda i: asked("swap", "accepted", ago=days(i)))
    cases["an average person"] = [asked("crash", "accepted", 40_000, 40_000, ago=days(i)) for i in range(3)] + [got("buyout", s, 60_000, 50_000, response=hours(3)) for s in ["accepted", "accepted", "rejected"]]
    cases["one who asked long ago and never got an answer is new"] = [asked("buyout", "expired", 20_000, 15_000, ago=days(200))]

    written = []
    for name, rows in cases.items():
        for i, row in enumerate(rows):
            if row["id"] is None:
                row["id"] = f"r{i:03}"
        expected = signals_of(rows)
        verdict = classify(expected)
        wire = [{"id": r["id"], "role": r["role"], "type": r["type"], "status": r["status"], "proposedCents": r["proposed"],
                 "baseCents": r["base"], "createdAt": wire_time(r["created"]), "respondedAt": wire_time(r["responded"])} for r in rows]
        written.append({
            "name": name,
            "requests": [{k: v for k, v in row.items() if v is not None} for row in wire],
            "expected": {k: float(v) for k, v in expected.items()},
            "archetype": verdict["archetype"], "scores": verdict["scores"],
        })
    return {"now": wire_time(NOW), "cases": written}


# --- the cases: classification -----------------------------------------------------------------------------------

QUIET = dict(zip(SIGNALS, ["500", "0.5", "0.45", "2.5", "0.6", "1", "0.33", "0.33", "0.34", "50", "5", "1"]))  # nothing fires


def classify_cases():
    cases = [("nothing fires", {}), ("no data", {k: str(float(v)) for k, v in NO_DATA.items()})]
    step = {"avgTransactionValue": "0.01", "avgResponseTimeHours": "0.000001", "requestFrequencyPerMonth": "0.333333", "flexibilityScore": "1", "accommodationHistory": "1"}
    for name, *cells in TABLE:
        for archetype, cell in zip(ARCHETYPES, cells):
            if cell:
                side, threshold, _ = cell
                delta = F(step.get(name, "0.000001"))
                for where, value in [("below", F(threshold) - delta), ("at", F(threshold)), ("above", F(threshold) + delta)]:
                    cases.append((f"{name} {where} {side} {threshold} of {archetype}", {name: str(float(value))}))
    flexible = {"flexibilityScore": "71", "accommodationHistory": "11", "swapPreference": "0.51", "buyoutPreference": "0.2"}
    spending = {"willingnessToPay": "0.8", "priceRejectionRate": "0.1", "avgResponseTimeHours": "5"}
    everything_spent = {"avgTransactionValue": "2000", **spending, "acceptanceRate": "0.2", "requestFrequencyPerMonth": "3", "flexibilityScore": "20", "reciprocityRatio": "0.2", "buyoutPreference": "0.9", "swapPreference": "0.05", "accommodationHistory": "1"}
    everything_flexible = {"avgTransactionValue": "100", "willingnessToPay": "0.2", "priceRejectionRate": "0.9", "avgResponseTimeHours": "0.5", "acceptanceRate": "0.9", "flexibilityScore": "90", "accommodationHistory": "20", "reciprocityRatio": "3", "swapPreference": "0.8", "buyoutPreference": "0.1"}
    cases += [
        ("tie at 50 of big_spender and average_user", {"avgTransactionValue": "1500", "flexibilityScore": "30"}),
        ("tie at 50 of high_flexibility and average_user", {"avgTransactionValue": "200", "flexibilityScore": "80"}),
        ("tie at 55 of big_spender and high_flexibility", {**spending, **flexible}),
        ("tie at 50 of all three", {"avgTransactionValue": "1500", "requestFrequencyPerMonth": "3", "buyoutPreference": "0.61", "swapPreference": "0.2", "flexibilityScore": "71", "acceptanceRate": "0.71"}),
        ("big_spender by five points", {"avgTransactionValue": "1500", "willingnessToPay": "0.8"}),
        ("high_flexibility by five points", {"flexibilityScore": "71", "willingnessToPay": "0.3"}),
        ("big_spender leads by 35: 0.85", {"avgTransactionValue": "1500", **spending, "requestFrequencyPerMonth": "2", "acceptanceRate": "0.7"}),
        ("big_spender leads by 45: 0.95", {"avgTransactionValue": "1500", **spending, "requestFrequencyPerMonth": "3"}),
        ("big_spender leads by 50: still 0.95", {"avgTransactionValue": "1500", **spending, "requestFrequencyPerMonth": "3", "acceptanceRate": "0.4", "reciprocityRatio": "0.5"}),
        ("every row of big_spender", everything_spent),
        ("every row of high_flexibility", everything_flexible),
        ("new: no value and no request lately, at most 0.6", {**everything_flexible, "avgTransactionValue": "0", "requestFrequencyPerMonth": "0"}),
        ("new: average_user leads by 30, 0.6", {"avgTransactionValue": "0", "requestFrequencyPerMonth": "0"}),
        ("new: lead of 10 is exactly 0.6", {"avgTransactionValue": "0", "requestFrequencyPerMonth": "0", "priceRejectionRate": "0.7"}),
        ("new: lead of 5 is below the cap", {"avgTransactionValue": "0", "requestFrequencyPerMonth": "0", "avgResponseTimeHours": "1.5"}),
        ("new: a tie is 0.5", {"avgTransactionValue": "0", "requestFrequencyPerMonth": "0", "flexibilityScore": "71"}),
        ("not new: no value but a request lately", {**everything_flexible, "avgTransactionValue": "0", "requestFrequencyPerMonth": "0.3333333333333333"}),
        ("not new: a value of one cent but no request lately", {**everything_flexible, "avgTransactionValue": "0.01", "requestFrequencyPerMonth": "0"}),
        ("not new: a big spender without a request lately", {**everything_spent, "requestFrequencyPerMonth": "0"}),
    ]
    written = []
    for name, changed in cases:
        signals = {k: F(changed.get(k, QUIET[k])) for k in SIGNALS}
        written.append({"name": name, "signals": {k: float(v) for k, v in signals.items()}, "expected": classify(signals)})
    return {"cases": written}


# --- the cases: decisions ----------------------------------------------------------------------------------------

KNOWN = dict(zip(SIGNALS, [500.0, 0.5, 0.45, 2.5, 0.6, 1.0, 0.3, 0.3, 0.4, 50.0, 5.0, 1.0]))
UNKNOWN = {k: float(v) for k, v in NO_DATA.items()}


def person(archetype="average_user", signals=KNOWN, overridden=False, confidence=0.8, **changed):
    return {"archetype": archetype, "confidence": confidence, "overridden": overridden, "signals": {**signals, **changed}}


def snapshot(days=7, base=15_000, demand=10_000, source="lease_night", target="2026-03-15", requester=None, roommate=None, history=4, last=None, nights=None, neutral=None):
    audience = {"neutral": neutral} if neutral else {"personal": {
        "requester": requester or person(), "roommate": roommate or person(),
        "history": {"priorRequests": history, "last": last}, "offerableNights": nights}}
    return {"targetDate": target, "daysUntilCheckIn": days,
            "night": {"basePriceCents": base, "demandTenThousandths": demand, "pricingSource": source}, "audience": audience}


def last(kind, accepted=True):
    return {"transactionType": kind, "accepted": accepted}


BOUNDARIES = [-400, -1, 0, 1, 3, 4, 6, 7, 8, 14, 15, 21, 22, 365]


def decide_cases():
    cases = []
    add = lambda name, **given: cases.append((name, snapshot(**given)))
    bases = [15_000, 9_900, 12_345, 30_050, 100_000]
    demands = [10_000, 7_000, 14_000, 11_600, 9_333]
    i = 0
    for archetype in ARCHETYPES:
        for history in [0, 1, 10]:
            for d in BOUNDARIES:
                add(f"{archetype}, {history} earlier, {d} days", days=d, history=history, requester=person(archetype),
                    roommate=person(ARCHETYPES[i % 3]), base=bases[i % 5], demand=demands[(i // 2) % 5])
                i += 1
    for cause in ["anonymous", "opted_out", "degraded"]:
        for d in BOUNDARIES:
            add(f"neutral ({cause}), {d} days", neutral=cause, days=d, base=bases[i % 5], demand=demands[(i // 2) % 5])
            i += 1
    add("default night", neutral="anonymous", days=30, base=15_000, demand=10_000, source="default")
    add("default night of a known user", days=30, base=15_000, demand=10_000, source="default")
    # Money.
    add("10 × 1.25 × 1.16 is 14.5 and gives 15", days=7, base=1_000, demand=11_600)
    add("the documented example", days=7, base=15_000, demand=12_000, history=4, requester=person("big_spender", confidence=0.85), roommate=person("big_spender", acceptanceRate=0.7), nights=2)
    for base in [0, 1, 32, 33, 34, 49, 50, 100, 149, 150, 185, 199, 200, 500, 1_000, 2_499, 2_500, 2_750, 2_777, 2_778, 3_333, 9_999_999, 10_000_000]:
        add(f"base price of {base} cents, no urgency", days=30, base=base, nights=0)
        add(f"base price of {base} cents, critical", days=0, base=base, nights=1)
    for base in [3_300, 3_333, 3_366, 3_400, 9_950, 9_966, 10_000, 16_600, 16_633, 16_666, 16_667, 16_700, 23_333, 30_000]:
        add(f"buyout fee around a half: base {base}", days=30, base=base)
    for demand in [-1, 0, 6_999, 7_000, 7_001, 13_999, 14_000, 14_001, 1_000_000]:
        add(f"demand of {demand} ten-thousandths", days=30, base=20_000, demand=demand)
    # Weekdays: 2026-03-16 is a Monday.
    for d in range(16, 23):
        add(f"weekday of 2026-03-{d}", target=f"2026-03-{d}")
    add("weekday of 2024-02-29", target="2024-02-29")
    add("weekday of 1970-01-01", target="1970-01-01")
    add("weekday of 9999-12-31", target="9999-12-31")
    # Acceptance by the roommate.
    for archetype in ARCHETYPES:
        add(f"roommate {archetype}, no preference above a half", roommate=person(archetype))
        add(f"roommate {archetype}, preference exactly a half", roommate=person(archetype, buyoutPreference=0.5, crashPreference=0.5, swapPreference=0.0))
        for kind in TYPES:
            for share in [0.51, 0.75, 1.0]:
                shares = {f"{t}Preference": (share if t == kind else 0.0) for t in TYPES}
                add(f"roommate {archetype} prefers {kind} by {share}", roommate=person(archetype, acceptanceRate=0.9, **shares))
    add("confidence is limited to 0.95: 0.80 + 0.20", roommate=person("high_flexibility", acceptanceRate=1.0, swapPreference=1.0, buyoutPreference=0.0, crashPreference=0.0))
    add("probability is limited to 0.95", roommate=person("high_flexibility", acceptanceRate=1.0, swapPreference=1.0, buyoutPreference=0.0, crashPreference=0.0), last=last("swap"))
    add("probability just below the limit", roommate=person("high_flexibility", acceptanceRate=0.85, swapPreference=1.0, buyoutPreference=0.0, crashPreference=0.0), last=last("swap"))
    add("a roommate who accepts nothing", roommate=person("big_spender", acceptanceRate=0.0, accommodationHistory=0.0), last=last("buyout"))
    add("a roommate who accepts everything", roommate=person("big_spender", acceptanceRate=1.0), last=last("buyout"))
    for kind in TYPES:
        add(f"last request a {kind}, accepted", last=last(kind), nights=3)
        add(f"last request a {kind}, not accepted", last=last(kind, False), nights=3)
        add(f"last request a {kind}, accepted, new roommate", last=last(kind), roommate=person("average_user", UNKNOWN))
    # New roommates.
    for archetype in ARCHETYPES:
        add(f"new roommate as {archetype}", roommate=person(archetype, UNKNOWN))
        add(f"new roommate, overridden to {archetype}", roommate=person(archetype, UNKNOWN, overridden=True, confidence=1.0))
        add(f"new roommate with an old lean to buyout as {archetype}", roommate=person(archetype, UNKNOWN, buyoutPreference=1.0, crashPreference=0.0, swapPreference=0.0))
        add(f"overridden {archetype} with an old lean to buyout", roommate=person(archetype, UNKNOWN, overridden=True, buyoutPreference=1.0, crashPreference=0.0, swapPreference=0.0))
    add("a new roommate who accepted swaps", roommate=person("high_flexibility", UNKNOWN, acceptanceRate=1.0, accommodationHistory=4.0, reciprocityRatio=4.0), last=last("crash"))
    add("a roommate with a value and no request lately is not new", roommate=person("big_spender", UNKNOWN, avgTransactionValue=0.01))
    add("a roommate with a request lately and no value is not new", roommate=person("big_spender", UNKNOWN, requestFrequencyPerMonth=0.3333333333333333))
    # The requester's newness and override do not matter for acceptance; archetype does for the rule.
    add("new requester overridden to big_spender, no history", requester=person("big_spender", UNKNOWN, overridden=True, confidence=1.0), history=0)
    add("new requester overridden to big_spender, with history", requester=person("big_spender", UNKNOWN, overridden=True, confidence=1.0), history=1)
    add("old requests only: signals say new, history does not", requester=person("average_user", UNKNOWN, confidence=0.6), history=3)
    # Nights that could be offered.
    for nights in [None, 0, 1, 2, 60]:
        add(f"offerable nights: {nights}", nights=nights)
        add(f"offerable nights of a flexible requester: {nights}", requester=person("high_flexibility"), nights=nights)
    written = [{"name": name, "expected": decide(given), "snapshot": shortened(given)} for name, given in cases]
    return {"like": {"known": KNOWN, "unknown": UNKNOWN}, "cases": written}


def shortened(given):
    """Writes each set of signals as what differs from one of two well-known sets."""
    for someone in [(given["audience"].get("personal") or {}).get(side) for side in ["requester", "roommate"]]:
        if someone:
            sets = {"known": KNOWN, "unknown": UNKNOWN}
            differing = {name: {k: v for k, v in someone["signals"].items() if base[k] != v} for name, base in sets.items()}
            name = min(differing, key=lambda n: len(differing[n]))
            someone["signals"] = {"like": name, **differing[name]}
    return given


def main():
    for name, content in [("signals", signals_cases()), ("classify", classify_cases()), ("decide", decide_cases())]:
        names = [c["name"] for c in content["cases"]]
        assert len(names) == len(set(names)), f"{name}: a name is used twice"
        head = "".join(f"{json.dumps(k)}: {json.dumps(v)},\n" for k, v in content.items() if k != "cases")
        lines = ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in content["cases"])
        (HERE / f"{name}.json").write_text("{" + head + '"cases": [\n' + lines + "\n]}\n", encoding="utf-8")
        print(name, len(names))


if __name__ == "__main__":
    main()
