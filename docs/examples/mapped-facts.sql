-- An app that keeps its requests in a table of its own shape, datechangerequest, and people in profiles with a uuid key.
-- Run as the owner of Nudge's schema, after the migrations. profiles fits as it is and was mapped by them.
--
-- The columns of a view must have exactly these types and collations, so that it replaces the one that is there and keeps
-- its grants.
CREATE OR REPLACE VIEW nudge.date_change_requests AS
SELECT
  r.id::text COLLATE "C" AS id,
  r.lease_id::text COLLATE "C" AS lease_id,
  r.requested_by::text COLLATE "C" AS requester_id,
  r.request_receiver::text COLLATE "C" AS receiver_id,
  r.request_type::text COLLATE "C" AS transaction_type,
  r.night AS target_night,
  NULL::date AS offered_night,
  (CASE WHEN r.request_type <> 'swap' THEN r.price_rate_of_the_night END)::numeric AS proposed_price,
  r.regular_price::numeric AS base_price,
  (CASE r.request_status
    WHEN 'waiting_for_answer' THEN 'pending'
    WHEN 'Approved' THEN 'accepted'
    WHEN 'Rejected' THEN 'rejected'
    ELSE r.request_status
  END)::text COLLATE "C" AS status,
  r.recommendation_id::text COLLATE "C" AS recommendation_id,
  r.created_at AS created_at,
  r.answered_at AS responded_at
FROM public.datechangerequest AS r
-- A row that is no request for us would be an error to whoever reads it.
WHERE r.requested_by <> r.request_receiver
  AND r.request_type IN ('buyout', 'crash', 'swap')
  AND r.request_status IN ('waiting_for_answer', 'Approved', 'Rejected', 'expired', 'cancelled');

-- The newest requests of a person are looked for by these expressions, so these are what is indexed.
CREATE INDEX datechangerequest_by_requester
  ON public.datechangerequest (((requested_by::text) COLLATE "C"), created_at);
CREATE INDEX datechangerequest_by_receiver
  ON public.datechangerequest (((request_receiver::text) COLLATE "C"), created_at);
