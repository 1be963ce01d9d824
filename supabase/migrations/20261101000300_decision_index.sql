-- The embedded engine indexes decisions by user in runs (docs/decisions/0006). Here the primary key (user_id, id) is that
-- index: the log holds the change and not the page. Nothing to do, but both engines count the same versions.

INSERT INTO nudge.migrations (version, name) VALUES (20261101000300, 'decision_index');
