-- The built-in alerts: where each stands, how it came there, and who wants to hear nothing of it.

CREATE TABLE nudge.alert_states (
  rule text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL CHECK (state IN ('ok', 'pending', 'firing', 'no_data')),
  since timestamptz NOT NULL,
  value double precision,
  threshold double precision NOT NULL,
  window_secs bigint NOT NULL,
  sample_size bigint,
  memory jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(memory) = 'object'),
  created_at timestamptz NOT NULL,
  evaluated_at timestamptz NOT NULL,
  revision bigint NOT NULL,
  PRIMARY KEY (rule, instance)
) WITH (fillfactor = 50);
COMMENT ON TABLE nudge.alert_states IS 'Where each alert stands. Replicas agree on a row by its revision.';
COMMENT ON COLUMN nudge.alert_states.rule IS 'The alert.';
COMMENT ON COLUMN nudge.alert_states.instance IS 'The server that it is about; empty: the whole service.';
COMMENT ON COLUMN nudge.alert_states.state IS 'ok, pending, firing or no_data.';
COMMENT ON COLUMN nudge.alert_states.since IS 'Since when it stands so.';
COMMENT ON COLUMN nudge.alert_states.value IS 'The figure when it was evaluated last; empty: there was none.';
COMMENT ON COLUMN nudge.alert_states.threshold IS 'What the figure must not be above.';
COMMENT ON COLUMN nudge.alert_states.window_secs IS 'The time that the figure is about, in seconds.';
COMMENT ON COLUMN nudge.alert_states.sample_size IS 'How much it was made of.';
COMMENT ON COLUMN nudge.alert_states.memory IS 'What the evaluation has to remember: beginnings, and what was told to whom.';
COMMENT ON COLUMN nudge.alert_states.created_at IS 'When it was evaluated first.';
COMMENT ON COLUMN nudge.alert_states.evaluated_at IS 'When it was evaluated last, within a minute.';
COMMENT ON COLUMN nudge.alert_states.revision IS 'Rises with every write.';

CREATE TABLE nudge.alert_transitions (
  id uuid NOT NULL PRIMARY KEY,
  rule text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  from_state text COLLATE "C" NOT NULL CHECK (from_state IN ('ok', 'pending', 'firing', 'no_data')),
  to_state text COLLATE "C" NOT NULL CHECK (to_state IN ('ok', 'pending', 'firing', 'no_data')),
  value double precision,
  threshold double precision NOT NULL,
  window_secs bigint NOT NULL,
  sample_size bigint,
  at timestamptz NOT NULL
);
COMMENT ON TABLE nudge.alert_transitions IS 'How alerts came to stand where they stand. Old ones are pruned.';
COMMENT ON COLUMN nudge.alert_transitions.id IS 'UUIDv7, in the order of time.';
COMMENT ON COLUMN nudge.alert_transitions.rule IS 'The alert.';
COMMENT ON COLUMN nudge.alert_transitions.instance IS 'The server that it is about; empty: the whole service.';
COMMENT ON COLUMN nudge.alert_transitions.from_state IS 'Where it stood.';
COMMENT ON COLUMN nudge.alert_transitions.to_state IS 'Where it stood then.';
COMMENT ON COLUMN nudge.alert_transitions.value IS 'The figure.';
COMMENT ON COLUMN nudge.alert_transitions.threshold IS 'What the figure must not be above.';
COMMENT ON COLUMN nudge.alert_transitions.window_secs IS 'The time that the figure is about, in seconds.';
COMMENT ON COLUMN nudge.alert_transitions.sample_size IS 'How much it was made of.';
COMMENT ON COLUMN nudge.alert_transitions.at IS 'When.';

CREATE TABLE nudge.alert_silences (
  id uuid NOT NULL PRIMARY KEY,
  rule text COLLATE "C",
  instance text COLLATE "C",
  reason text COLLATE "C" NOT NULL,
  created_by text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL,
  ends_at timestamptz NOT NULL,
  lifted_at timestamptz,
  lifted_by text COLLATE "C"
);
COMMENT ON TABLE nudge.alert_silences IS 'Times in which nobody is told of an alert. Audited.';
COMMENT ON COLUMN nudge.alert_silences.id IS 'UUIDv7.';
COMMENT ON COLUMN nudge.alert_silences.rule IS 'The alert; empty: all of them.';
COMMENT ON COLUMN nudge.alert_silences.instance IS 'The server; empty: all of them, and the whole service.';
COMMENT ON COLUMN nudge.alert_silences.reason IS 'Why.';
COMMENT ON COLUMN nudge.alert_silences.created_by IS 'Who wanted it.';
COMMENT ON COLUMN nudge.alert_silences.created_at IS 'When it began.';
COMMENT ON COLUMN nudge.alert_silences.ends_at IS 'When it ends.';
COMMENT ON COLUMN nudge.alert_silences.lifted_at IS 'When somebody ended it before.';
COMMENT ON COLUMN nudge.alert_silences.lifted_by IS 'Who did.';

REVOKE ALL ON nudge.alert_states, nudge.alert_transitions, nudge.alert_silences
  FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON nudge.alert_states, nudge.alert_transitions, nudge.alert_silences
  TO service_role;

INSERT INTO nudge.migrations (version, name) VALUES (20261124000200, 'alerts');
