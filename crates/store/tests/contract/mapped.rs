//! Facts that the app keeps itself, read through the views of the worked example in the documents.

use crate::postgres::{TestDatabase, migrate};
use crate::support::*;
use nudge_engine::{Archetype, TransactionType};
use nudge_store::*;

/// The app's tables as they were before the service came.
const APP: &str = "
    CREATE TYPE public.request_kind AS ENUM ('buyout', 'crash', 'swap', 'other');
    CREATE TABLE public.profiles (id uuid PRIMARY KEY, full_name text, role text);
    CREATE TABLE public.datechangerequest (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, lease_id bigint, requested_by uuid NOT NULL,
      request_receiver uuid NOT NULL, request_type request_kind NOT NULL, night date NOT NULL,
      price_rate_of_the_night numeric(8, 2), regular_price numeric(8, 2), request_status varchar(20) NOT NULL,
      recommendation_id uuid, created_at timestamptz NOT NULL DEFAULT now(), answered_at timestamptz);
    INSERT INTO public.profiles VALUES ('00000000-0000-4000-8000-00000000000a', 'Ann', 'owner'),
      ('00000000-0000-4000-8000-00000000000b', 'Bob', 'admin');
    INSERT INTO public.datechangerequest (lease_id, requested_by, request_receiver, request_type, night,
      price_rate_of_the_night, regular_price, request_status, created_at, answered_at)
    SELECT 7, '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b', 'buyout', '2026-03-15',
      1500, 1000, status, '2026-02-01T00:00:00Z'::timestamptz + n * interval '1 hour', '2026-02-20T00:00:00Z'
    FROM unnest('{Approved, Approved, Rejected, waiting_for_answer, expired, cancelled, unheard_of}'::text[])
      WITH ORDINALITY AS s (status, n);";

const ANN: &str = "00000000-0000-4000-8000-00000000000a";
const BOB: &str = "00000000-0000-4000-8000-00000000000b";

async fn mapped() -> (TestDatabase, Store) {
    let database = TestDatabase::empty().await;
    let owner = database.owner().await;
    owner.batch_execute(APP).await.unwrap();
    migrate(&owner).await;
    owner.batch_execute(include_str!("../../../../docs/examples/mapped-facts.sql")).await.unwrap();
    let store = Store::connect(PostgresOptions::new(database.url().parse().unwrap())).await.unwrap();
    (database, store)
}

async fn read(store: &Store, id: &str) -> PersonFacts {
    store.load_person(&user(id), WithRequests::Always, 50, 10).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worked_example_is_read_as_facts() {
    let (_database, store) = mapped().await;
    let ann = read(&store, ANN).await;
    let requests = ann.requests.unwrap();
    // The status that nobody has heard of is left out by the view.
    assert_eq!(requests.len(), 6);
    let count = |status| requests.iter().filter(|request| request.status == status).count();
    use nudge_engine::RequestStatus::{Accepted, Cancelled, Expired, Pending, Rejected};
    assert_eq!([Accepted, Rejected, Pending, Expired, Cancelled].map(count), [2, 1, 1, 1, 1]);
    assert!(requests.iter().all(|r| r.transaction_type == TransactionType::Buyout));
    assert!(requests.iter().all(|r| r.proposed_price == Some(nudge_engine::Cents(150_000))));
    assert_eq!(ann.history.prior_requests, 6);
    // An upper-case spelling of the id is the same person, and an app's other roles are members.
    assert_eq!(store.profile(&user(&ANN.to_uppercase())).await.unwrap().role, ProfileRole::Member);
    assert_eq!(store.profile(&user(BOB)).await.unwrap().role, ProfileRole::Admin);
    let people = store.people_after(None, 10).await.unwrap();
    assert_eq!(people, [user(ANN), user(BOB)]);
    let announced = store.announced().await.unwrap();
    assert_eq!(announced, Announced { people: false, homes: true }, "nobody tells of the app's writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archetype_of_mapped_facts_is_stored_and_goes_stale_when_the_app_tells() {
    let (database, store) = mapped().await;
    let version = read(&store, ANN).await.version;
    let saved = store.save_archetype(user(ANN), computed(Archetype::BigSpender), version).await.unwrap();
    assert_eq!(saved, ArchetypeSaved::Saved);
    // The app writes its own row, and its webhook tells of it in our words.
    let row = DateChangeRequestRow { id: entity("8"), ..request(8, ANN, BOB) };
    let told = vec![FactChange::Upsert(FactRow::DateChangeRequest(row))];
    let applied = store.apply_facts(told, at("2026-03-01T12:00:00Z")).await.unwrap();
    assert_eq!((applied.upserted, applied.stale_users), (0, 2), "marked, and not written");
    assert!(read(&store, ANN).await.version.stale_revision.is_some());
    let owner = database.owner().await;
    let rows = "SELECT count(*) FROM public.datechangerequest";
    assert_eq!(owner.query_one(rows, &[]).await.unwrap().get::<_, i64>(0), 7, "the app's table is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_indexes_of_the_worked_example_are_used() {
    let (database, _store) = mapped().await;
    let owner = database.owner().await;
    let many = "INSERT INTO public.datechangerequest (requested_by, request_receiver, request_type, night, request_status)
        SELECT gen_random_uuid(), gen_random_uuid(), 'crash', '2026-03-15', 'expired' FROM generate_series(1, 20000);
      ANALYZE public.datechangerequest";
    owner.batch_execute(many).await.unwrap();
    for column in ["requester_id", "receiver_id"] {
        let query = format!(
            "EXPLAIN SELECT id FROM nudge.date_change_requests WHERE {column} = '{ANN}'
             ORDER BY created_at DESC, id DESC LIMIT 50"
        );
        let plan: Vec<String> =
            owner.query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("datechangerequest_by_re")), "{plan:#?}");
    }
}
