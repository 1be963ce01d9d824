-- What reports are made of: sums of decisions by day and kind, and what is not in the sums yet. A commit of decisions notes
-- their ids in one row, a change of outcomes is noted with the columns before and after; both are emptied as they are
-- added to the sums. They are notes without a key: nothing but their being there counts, and nobody updates them.

CREATE TABLE nudge.report_cells (
  day date NOT NULL,
  archetype_type text COLLATE "C" NOT NULL,
  urgency_level text COLLATE "C" NOT NULL,
  primary_recommendation text COLLATE "C" NOT NULL,
  audience text COLLATE "C" NOT NULL CHECK (audience IN ('personalized', 'neutral', 'anonymous')),
  tally jsonb NOT NULL,
  PRIMARY KEY (day, archetype_type, urgency_level, primary_recommendation, audience)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE nudge.report_cells IS 'Sums of decisions and what came of them, by day and kind. Reports add them up.';
COMMENT ON COLUMN nudge.report_cells.day IS 'The day of the decisions, UTC.';
COMMENT ON COLUMN nudge.report_cells.archetype_type IS 'The archetype used.';
COMMENT ON COLUMN nudge.report_cells.urgency_level IS 'The band of urgency.';
COMMENT ON COLUMN nudge.report_cells.primary_recommendation IS 'The pre-selected type.';
COMMENT ON COLUMN nudge.report_cells.audience IS 'For whom: personalized, neutral or anonymous.';
COMMENT ON COLUMN nudge.report_cells.tally IS
  'The sums, an object: counts, and how often each value came up as a flat list of value, times.';

CREATE TABLE nudge.report_arrivals (
  ids uuid[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE nudge.report_arrivals IS 'New decisions that are not in the sums yet, a row a commit.';
COMMENT ON COLUMN nudge.report_arrivals.ids IS 'The decisions.';

CREATE TABLE nudge.report_changes (
  recommendation_id uuid NOT NULL,
  before jsonb,
  after jsonb NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE nudge.report_changes IS
  'Changes of what came of decisions that are not in the sums yet, noted with the outcomes themselves.';
COMMENT ON COLUMN nudge.report_changes.recommendation_id IS 'The decision.';
COMMENT ON COLUMN nudge.report_changes.before IS 'Its outcome columns before, an object; empty: none.';
COMMENT ON COLUMN nudge.report_changes.after IS 'And after.';

-- The decisions that are there already, and what came of them.
INSERT INTO nudge.report_arrivals (ids)
SELECT array_agg(numbered.id) FROM (
  SELECT l.id, (row_number() OVER (ORDER BY l.id) - 1) / 256 AS part FROM public.recommendation_logs AS l
) AS numbered GROUP BY numbered.part ORDER BY numbered.part;
INSERT INTO nudge.report_changes (recommendation_id, before, after)
SELECT l.id, NULL, jsonb_build_object(
    'userSelected', l.user_selected,
    'followedRecommendation', l.followed_recommendation,
    'timeToDecisionSeconds', l.time_to_decision_seconds,
    'requestSubmitted', l.request_submitted,
    'requestAccepted', l.request_accepted,
    'finalTransactionType', l.final_transaction_type,
    'npsScore', l.nps_score)
FROM public.recommendation_logs AS l
WHERE l.user_selected IS NOT NULL OR l.request_submitted OR l.request_accepted IS NOT NULL OR l.nps_score IS NOT NULL;

REVOKE ALL ON nudge.report_cells, nudge.report_arrivals, nudge.report_changes
  FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON nudge.report_cells, nudge.report_arrivals, nudge.report_changes
  TO service_role;

INSERT INTO nudge.migrations (version, name) VALUES (20261124000300, 'report');
