-- What the service decides and learns: archetypes, decisions, outcomes.

-- One row a user.
CREATE TABLE user_archetypes (
  user_id TEXT NOT NULL PRIMARY KEY,                   -- the user
  archetype_type TEXT NOT NULL                         -- the archetype in force, unless an override has ended
    CHECK (archetype_type IN ('big_spender', 'high_flexibility', 'average_user')),
  confidence REAL NOT NULL                             -- two decimals
    CHECK (confidence >= 0 AND confidence <= 1),
  signals TEXT NOT NULL CHECK (json_valid(signals)),   -- the twelve signals, JSON object
  reasoning TEXT NOT NULL CHECK (json_valid(reasoning)),  -- why, for people, JSON array of texts
  scores TEXT NOT NULL CHECK (json_valid(scores)),     -- the whole breakdown, JSON object
  is_manual_override INTEGER NOT NULL DEFAULT 0        -- 1: an admin said so
    CHECK (is_manual_override IN (0, 1)),
  override_reason TEXT,                                -- why
  override_by TEXT,                                    -- who
  override_expires_at TEXT                             -- when it ends; never if empty
    CHECK (override_expires_at IS NULL OR length(override_expires_at) = 27),
  policy TEXT NOT NULL,                                -- the policy that computed it
  computed_at TEXT NOT NULL CHECK (length(computed_at) = 27),  -- when it was computed or set
  created_at TEXT NOT NULL CHECK (length(created_at) = 27),    -- when the row was made
  updated_at TEXT NOT NULL CHECK (length(updated_at) = 27),    -- when it was last written; differs at every write
  CHECK ((is_manual_override = 1) = (override_reason IS NOT NULL)),
  CHECK ((is_manual_override = 1) = (override_by IS NOT NULL)),
  CHECK (is_manual_override = 1 OR override_expires_at IS NULL)
) STRICT;

CREATE INDEX user_archetypes_by_type ON user_archetypes (archetype_type);

-- One row a decision: what was answered, what it was made from, and what came of it. The hot table: JSON is not parsed
-- again by CHECKs. Ids are UUIDv7, so a range of ids is a range of time and an index by time is not needed.
CREATE TABLE recommendation_logs (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- UUIDv7
  user_id TEXT NOT NULL,                               -- the requester; anonymous for an anonymous caller
  roommate_id TEXT,                                    -- the roommate
  lease_id TEXT,                                       -- the lease that both share
  target_date TEXT NOT NULL,                           -- the night asked for
  primary_recommendation TEXT NOT NULL                 -- the pre-selected type
    CHECK (primary_recommendation IN ('buyout', 'crash', 'swap')),
  archetype_type TEXT NOT NULL                         -- the archetype used
    CHECK (archetype_type IN ('big_spender', 'high_flexibility', 'average_user')),
  archetype_confidence REAL NOT NULL,                  -- its confidence
  days_until_checkin INTEGER NOT NULL CHECK (days_until_checkin >= 0),  -- whole days
  urgency_level TEXT NOT NULL                          -- its band
    CHECK (urgency_level IN ('CRITICAL', 'HIGH', 'MEDIUM', 'LOW')),
  user_selected TEXT                                   -- the type that the user chose
    CHECK (user_selected IS NULL OR user_selected IN ('buyout', 'crash', 'swap')),
  time_to_decision_seconds REAL,                       -- from decision to choice
  followed_recommendation INTEGER                      -- whether it was the pre-selected one; empty until chosen
    CHECK (followed_recommendation IS NULL OR followed_recommendation IN (0, 1)),
  request_submitted INTEGER NOT NULL DEFAULT 0         -- whether a request was sent
    CHECK (request_submitted IN (0, 1)),
  request_accepted INTEGER                             -- whether the roommate accepted; empty until answered
    CHECK (request_accepted IS NULL OR request_accepted IN (0, 1)),
  final_transaction_type TEXT                          -- the type that came about
    CHECK (final_transaction_type IS NULL OR final_transaction_type IN ('buyout', 'crash', 'swap')),
  nps_score INTEGER                                    -- the user's score, 0 to 10
    CHECK (nps_score IS NULL OR nps_score BETWEEN 0 AND 10),
  rule TEXT NOT NULL,                                  -- the rule that chose the order
  policy TEXT NOT NULL,                                -- the policy with all numbers
  personalized INTEGER NOT NULL CHECK (personalized IN (0, 1)),  -- 0 for a neutral default
  propensity REAL NOT NULL                             -- probability of this default under the policy
    CHECK (propensity > 0 AND propensity <= 1),
  confidence REAL NOT NULL,                            -- the decision's confidence
  session_id TEXT,                                     -- the caller's session
  user_agent TEXT,                                     -- the caller's user agent
  response_time_ms INTEGER NOT NULL,                   -- from request to decision
  experiment_id TEXT,                                  -- the experiment that it was part of
  experiment_variant TEXT,                             -- and the variant
  created_at TEXT NOT NULL CHECK (length(created_at) = 27),  -- when it was made
  options TEXT NOT NULL,                               -- the three options as answered, JSON array
  context TEXT NOT NULL                                -- what the decision used, JSON object
) STRICT;

CREATE INDEX recommendation_logs_by_user ON recommendation_logs (user_id, id);

-- Outcomes, append-only. An event is the same when its primary key is.
CREATE TABLE recommendation_events (
  user_id TEXT NOT NULL,                               -- of the decision
  recommendation_id TEXT NOT NULL,                     -- the decision
  event TEXT NOT NULL                                  -- what happened
    CHECK (event IN ('viewed', 'selected', 'submitted', 'accepted', 'declined', 'expired', 'cancelled', 'nps')),
  occurrence TEXT NOT NULL,                            -- `<type or nothing>@<occurredAt as given or nothing>`
  transaction_type TEXT                                -- the type selected, submitted or answered
    CHECK (transaction_type IS NULL OR transaction_type IN ('buyout', 'crash', 'swap')),
  payload TEXT NOT NULL CHECK (json_valid(payload)),   -- source, and what else the event carries, JSON object
  occurred_at TEXT NOT NULL CHECK (length(occurred_at) = 27),  -- when it happened
  recorded_at TEXT NOT NULL CHECK (length(recorded_at) = 27),  -- when it was recorded
  PRIMARY KEY (user_id, recommendation_id, event, occurrence)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER recommendation_events_keep BEFORE UPDATE ON recommendation_events
BEGIN SELECT raise(ABORT, 'recommendation_events is append-only'); END;
