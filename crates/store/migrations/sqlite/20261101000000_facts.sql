-- The app's facts, as import and ingest bring them. Rows come in any order, so they do not refer to each other by
-- foreign keys. Ids are opaque text, dates YYYY-MM-DD, times UTC with six decimals (27 characters, so that the order of
-- the text is the order of time), money dollars with at most two decimals, booleans 0 and 1.

-- People, as far as the service looks at them. Who is not here is a member who has not opted out.
CREATE TABLE profiles (
  id TEXT NOT NULL PRIMARY KEY,                        -- the user
  role TEXT NOT NULL DEFAULT 'member'                  -- member or admin
    CHECK (role IN ('member', 'admin')),
  personalization_opt_out INTEGER NOT NULL DEFAULT 0   -- 1: nothing personal is used or kept
    CHECK (personalization_opt_out IN (0, 1)),
  created_at TEXT NOT NULL CHECK (length(created_at) = 27)  -- when the profile was made
) STRICT, WITHOUT ROWID;

CREATE INDEX profiles_opted_out ON profiles (id) WHERE personalization_opt_out = 1;

-- Shared homes.
CREATE TABLE leases (
  id TEXT NOT NULL PRIMARY KEY,                        -- the lease
  name TEXT,                                           -- what people call it
  created_at TEXT NOT NULL CHECK (length(created_at) = 27)  -- when it was made
) STRICT, WITHOUT ROWID;

-- Who lives where.
CREATE TABLE lease_members (
  lease_id TEXT NOT NULL,                              -- the lease
  user_id TEXT NOT NULL,                               -- the tenant
  PRIMARY KEY (lease_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX lease_members_by_user ON lease_members (user_id, lease_id);

-- Who holds which night, at what price.
CREATE TABLE lease_nights (
  lease_id TEXT NOT NULL,                              -- the lease
  night TEXT NOT NULL CHECK (length(night) = 10),      -- the calendar date
  held_by TEXT,                                        -- the tenant who holds it
  base_price REAL NOT NULL                             -- dollars
    CHECK (base_price > 0 AND base_price <= 100000 AND base_price = round(base_price, 2)),
  market_demand REAL NOT NULL DEFAULT 1.0              -- factor, four decimals
    CHECK (market_demand > 0 AND market_demand <= 100),
  PRIMARY KEY (lease_id, night)
) STRICT, WITHOUT ROWID;

-- Who asked whom for which night, and what came of it.
CREATE TABLE date_change_requests (
  id TEXT NOT NULL PRIMARY KEY,                        -- the request
  lease_id TEXT,                                       -- the lease
  requester_id TEXT NOT NULL,                          -- who asks
  receiver_id TEXT NOT NULL                            -- who is asked
    CHECK (receiver_id <> requester_id),
  transaction_type TEXT NOT NULL                       -- what is proposed
    CHECK (transaction_type IN ('buyout', 'crash', 'swap')),
  target_night TEXT NOT NULL CHECK (length(target_night) = 10),  -- the night asked for
  offered_night TEXT                                   -- the night offered, in a swap
    CHECK (offered_night IS NULL OR (transaction_type = 'swap' AND length(offered_night) = 10)),
  proposed_price REAL                                  -- dollars; none in a swap
    CHECK (proposed_price IS NULL OR (transaction_type <> 'swap' AND proposed_price >= 0
      AND proposed_price <= 1000000 AND proposed_price = round(proposed_price, 2))),
  base_price REAL                                      -- dollars, of the night at that time
    CHECK (base_price IS NULL OR (base_price >= 0 AND base_price <= 100000 AND base_price = round(base_price, 2))),
  status TEXT NOT NULL                                 -- where it stands
    CHECK (status IN ('pending', 'accepted', 'rejected', 'expired', 'cancelled')),
  recommendation_id TEXT                               -- the decision that led to it
    CHECK (recommendation_id IS NULL OR length(recommendation_id) = 36),
  created_at TEXT NOT NULL CHECK (length(created_at) = 27),  -- when it was made
  responded_at TEXT                                    -- when it was answered
    CHECK (responded_at IS NULL OR (length(responded_at) = 27 AND responded_at >= created_at))
) STRICT;

-- The newest requests of a person, in either role, are read from these alone.
CREATE INDEX date_change_requests_by_requester ON date_change_requests (
  requester_id, created_at, id, transaction_type, status, proposed_price, base_price, responded_at);
CREATE INDEX date_change_requests_by_receiver ON date_change_requests (
  receiver_id, created_at, id, transaction_type, status, proposed_price, base_price, responded_at);
CREATE INDEX date_change_requests_by_recommendation ON date_change_requests (recommendation_id)
  WHERE recommendation_id IS NOT NULL;
