-- The built-in alerts: where each stands, how it came there, and who wants to hear nothing of it.

CREATE TABLE nudge_alert_states (
  rule TEXT NOT NULL,                                  -- the alert
  instance TEXT NOT NULL,                              -- the server that it is about; empty: the whole service
  state TEXT NOT NULL CHECK (state IN ('ok', 'pending', 'firing', 'no_data')),
  since TEXT NOT NULL CHECK (length(since) = 27),      -- since when it stands so
  value REAL,                                          -- the figure; empty: there was none
  threshold REAL NOT NULL,                             -- what the figure must not be above
  window_secs INTEGER NOT NULL,                        -- the time that the figure is about
  sample_size INTEGER,                                 -- how much it was made of
  memory TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(memory)),  -- what the evaluation has to remember, JSON object
  created_at TEXT NOT NULL CHECK (length(created_at) = 27),      -- when it was evaluated first
  evaluated_at TEXT NOT NULL CHECK (length(evaluated_at) = 27),  -- when it was evaluated last, within a minute
  revision INTEGER NOT NULL,                           -- rises with every write
  PRIMARY KEY (rule, instance)
) STRICT, WITHOUT ROWID;

CREATE TABLE nudge_alert_transitions (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- UUIDv7, in the order of time
  rule TEXT NOT NULL,                                  -- the alert
  instance TEXT NOT NULL,                              -- the server that it is about; empty: the whole service
  from_state TEXT NOT NULL CHECK (from_state IN ('ok', 'pending', 'firing', 'no_data')),
  to_state TEXT NOT NULL CHECK (to_state IN ('ok', 'pending', 'firing', 'no_data')),
  value REAL,                                          -- the figure
  threshold REAL NOT NULL,                             -- what the figure must not be above
  window_secs INTEGER NOT NULL,                        -- the time that the figure is about
  sample_size INTEGER,                                 -- how much it was made of
  at TEXT NOT NULL CHECK (length(at) = 27)             -- when
) STRICT, WITHOUT ROWID;

CREATE TABLE nudge_alert_silences (
  id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),  -- UUIDv7
  rule TEXT,                                           -- the alert; empty: all of them
  instance TEXT,                                       -- the server; empty: all of them, and the whole service
  reason TEXT NOT NULL,                                -- why
  created_by TEXT NOT NULL,                            -- who wanted it
  created_at TEXT NOT NULL CHECK (length(created_at) = 27),  -- when it began
  ends_at TEXT NOT NULL CHECK (length(ends_at) = 27),  -- when it ends
  lifted_at TEXT CHECK (lifted_at IS NULL OR length(lifted_at) = 27),  -- when somebody ended it before
  lifted_by TEXT                                       -- who did
) STRICT, WITHOUT ROWID;
