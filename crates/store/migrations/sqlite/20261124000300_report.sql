-- What reports are made of: sums of decisions by day and kind, and the changes that are not in the sums yet. New decisions
-- are those that arrived after the newest one in the sums; recording one costs nothing for it.

-- The sums. A tally is a JSON object: counts, and how often each value came up as a flat list of value, times.
CREATE TABLE nudge_report_cells (
  day TEXT NOT NULL CHECK (length(day) = 10),          -- of the decisions, UTC
  archetype_type TEXT NOT NULL,                        -- the archetype used
  urgency_level TEXT NOT NULL,                         -- its band
  primary_recommendation TEXT NOT NULL,                -- the pre-selected type
  audience TEXT NOT NULL                               -- for whom
    CHECK (audience IN ('personalized', 'neutral', 'anonymous')),
  tally TEXT NOT NULL CHECK (json_valid(tally)),       -- the sums, JSON object
  PRIMARY KEY (day, archetype_type, urgency_level, primary_recommendation, audience)
) STRICT;

-- Changes of what came of decisions, noted with the outcomes themselves. Emptied as they are added to the sums.
CREATE TABLE nudge_report_changes (
  change INTEGER PRIMARY KEY,                          -- order of arrival
  recommendation_id TEXT NOT NULL,                     -- the decision
  before TEXT CHECK (before IS NULL OR json_valid(before)),  -- its outcome columns before; empty: none
  after TEXT NOT NULL CHECK (json_valid(after))        -- and after, JSON object
) STRICT;

-- How far the sums have come.
CREATE TABLE nudge_report_state (
  only INTEGER PRIMARY KEY CHECK (only = 1),           -- the one row
  last_seq INTEGER NOT NULL,                           -- the newest decision in the sums
  revision INTEGER NOT NULL                            -- rises with every change of the sums
) STRICT;

INSERT INTO nudge_report_state (only, last_seq, revision) VALUES (1, 0, 0);

-- What came of the decisions that are there already.
INSERT INTO nudge_report_changes (recommendation_id, before, after)
SELECT id, NULL, json_object(
    'userSelected', user_selected,
    'followedRecommendation', json(CASE followed_recommendation WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END),
    'timeToDecisionSeconds', time_to_decision_seconds,
    'requestSubmitted', json(CASE request_submitted WHEN 1 THEN 'true' ELSE 'false' END),
    'requestAccepted', json(CASE request_accepted WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END),
    'finalTransactionType', final_transaction_type,
    'npsScore', nps_score)
FROM recommendation_logs
WHERE user_selected IS NOT NULL OR request_submitted = 1 OR request_accepted IS NOT NULL OR nps_score IS NOT NULL
ORDER BY seq;
