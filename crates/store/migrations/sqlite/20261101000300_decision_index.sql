-- Decisions by user without a random page for each decision. An index on the table touches, for nearly every row, a
-- page of its own, which is logged, synced and copied back: more than the rest of the insert. Here the newest rows are
-- found by their order of arrival, and are indexed in runs: one sorted, sequential write for a thousand decisions.

DROP INDEX recommendation_logs_by_user;
ALTER TABLE recommendation_logs RENAME TO old_recommendation_logs;

-- One row a decision, as before, with its order of arrival. The CHECKs are spelled with OR: for each IN of three words
-- or more SQLite builds a table at every insert.
CREATE TABLE recommendation_logs (
  seq INTEGER PRIMARY KEY,                             -- order of arrival, this engine's own
  id TEXT NOT NULL UNIQUE CHECK (length(id) = 36),     -- UUIDv7
  user_id TEXT NOT NULL,                               -- the requester; anonymous for an anonymous caller
  roommate_id TEXT,                                    -- the roommate
  lease_id TEXT,                                       -- the lease that both share
  target_date TEXT NOT NULL,                           -- the night asked for
  primary_recommendation TEXT NOT NULL                 -- the pre-selected type
    CHECK (primary_recommendation = 'buyout' OR primary_recommendation = 'crash' OR primary_recommendation = 'swap'),
  archetype_type TEXT NOT NULL                         -- the archetype used
    CHECK (archetype_type = 'big_spender' OR archetype_type = 'high_flexibility' OR archetype_type = 'average_user'),
  archetype_confidence REAL NOT NULL,                  -- its confidence
  days_until_checkin INTEGER NOT NULL CHECK (days_until_checkin >= 0),  -- whole days
  urgency_level TEXT NOT NULL                          -- its band
    CHECK (urgency_level = 'CRITICAL' OR urgency_level = 'HIGH' OR urgency_level = 'MEDIUM' OR urgency_level = 'LOW'),
  user_selected TEXT                                   -- the type that the user chose
    CHECK (user_selected IS NULL OR user_selected = 'buyout' OR user_selected = 'crash' OR user_selected = 'swap'),
  time_to_decision_seconds REAL,                       -- from decision to choice
  followed_recommendation INTEGER                      -- whether it was the pre-selected one; empty until chosen
    CHECK (followed_recommendation IS NULL OR followed_recommendation IN (0, 1)),
  request_submitted INTEGER NOT NULL DEFAULT 0         -- whether a request was sent
    CHECK (request_submitted IN (0, 1)),
  request_accepted INTEGER                             -- whether the roommate accepted; empty until answered
    CHECK (request_accepted IS NULL OR request_accepted IN (0, 1)),
  final_transaction_type TEXT                          -- the type that came about
    CHECK (final_transaction_type IS NULL OR final_transaction_type = 'buyout'
      OR final_transaction_type = 'crash' OR final_transaction_type = 'swap'),
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

INSERT INTO recommendation_logs (
  id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
  archetype_confidence, days_until_checkin, urgency_level, user_selected, time_to_decision_seconds,
  followed_recommendation, request_submitted, request_accepted, final_transaction_type, nps_score, rule,
  policy, personalized, propensity, confidence, session_id, user_agent, response_time_ms, experiment_id,
  experiment_variant, created_at, options, context)
SELECT
  id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
  archetype_confidence, days_until_checkin, urgency_level, user_selected, time_to_decision_seconds,
  followed_recommendation, request_submitted, request_accepted, final_transaction_type, nps_score, rule,
  policy, personalized, propensity, confidence, session_id, user_agent, response_time_ms, experiment_id,
  experiment_variant, created_at, options, context
FROM old_recommendation_logs ORDER BY rowid;

DROP TABLE old_recommendation_logs;

-- The runs: which arrivals each covers.
CREATE TABLE nudge_decision_runs (
  run INTEGER PRIMARY KEY AUTOINCREMENT,               -- the run
  level INTEGER NOT NULL,                              -- 0: as written; 1: merged from those
  last_seq INTEGER NOT NULL                            -- the newest decision in it
) STRICT;

-- The entries of the runs.
CREATE TABLE nudge_decisions_by_user (
  run INTEGER NOT NULL,                                -- the run
  user_id TEXT NOT NULL,                               -- the user of the decision
  id TEXT NOT NULL,                                    -- the decision
  PRIMARY KEY (run, user_id, id)
) STRICT, WITHOUT ROWID;

-- What is there already is the first run.
INSERT INTO nudge_decision_runs (level, last_seq)
SELECT 1, max(seq) FROM recommendation_logs HAVING count(seq) > 0;
INSERT INTO nudge_decisions_by_user (run, user_id, id)
SELECT run.run, log.user_id, log.id FROM nudge_decision_runs AS run CROSS JOIN recommendation_logs AS log
ORDER BY log.user_id, log.id;

-- Every decision with its user: `WHERE user_id = ?` is one search in each run, and a look at the newest rows.
CREATE VIEW nudge_decisions_of_users (user_id, id) AS
  SELECT entry.user_id, entry.id
  FROM nudge_decision_runs AS run CROSS JOIN nudge_decisions_by_user AS entry
  WHERE entry.run = run.run
  UNION ALL
  SELECT user_id, id FROM recommendation_logs
  WHERE seq > (SELECT coalesce(max(last_seq), 0) FROM nudge_decision_runs);
