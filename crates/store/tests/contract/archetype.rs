//! Stored archetypes: who may overwrite what, and who is told.

use crate::support::*;
use nudge_engine::Archetype::{AverageUser, BigSpender, HighFlexibility};
use nudge_store::*;

const NOW: &str = "2026-03-01T13:00:00Z";

fn overriding(expires_at: Option<&str>) -> ArchetypeChange {
    ArchetypeChange::Override {
        archetype: HighFlexibility,
        reason: "support case 7".into(),
        expires_at: expires_at.map(at),
        computed: computed(BigSpender),
    }
}

async fn change(f: &Fixture, change: ArchetypeChange) -> ArchetypeChanged {
    f.store.change_archetype(user("ann"), change, admin(), at(NOW)).await.unwrap()
}

async fn a_saved_archetype_is_read_back_and_the_user_is_stale_no_more(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    assert!(f.person("ann").await.version.stale_revision.is_some());
    assert_eq!(f.compute("ann", BigSpender).await, ArchetypeSaved::Saved);
    let ann = f.person("ann").await;
    assert_eq!(ann.version.stale_revision, None);
    let stored = ann.archetype.unwrap();
    assert_eq!((stored.archetype, stored.confidence), (BigSpender, 0.67), "two decimals");
    assert_eq!(stored.signals, computed(BigSpender).signals);
    assert_eq!(stored.scores, computed(BigSpender).scores);
    assert_eq!(f.store.archetype_counts().await.unwrap(), [(BigSpender, 1)]);
}

async fn a_write_from_facts_that_have_changed_is_dropped_and_the_user_stays_stale(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    let before = f.person("ann").await.version;
    f.facts([FactRow::DateChangeRequest(request(2, "ann", "bob"))]).await;
    let saved = f.store.save_archetype(user("ann"), computed(BigSpender), before).await.unwrap();
    assert_eq!(saved, ArchetypeSaved::Superseded);
    assert!(f.person("ann").await.version.stale_revision.is_some());

    // Two that read the same state: the first wins, even when the clock stands still.
    let same = f.person("ann").await.version;
    let many = vec![
        (user("ann"), computed(BigSpender), same.clone()),
        (user("ann"), computed(AverageUser), same.clone()),
    ];
    let saved = f.store.save_archetypes(many).await.unwrap();
    assert_eq!(saved, [ArchetypeSaved::Saved, ArchetypeSaved::Superseded]);
    let first = f.person("ann").await.version;
    assert_eq!(f.compute("ann", AverageUser).await, ArchetypeSaved::Saved);
    assert_ne!(f.person("ann").await.version, first);
}

async fn override_survives_a_computation_that_began_before_it(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    let before = f.person("ann").await.version;
    let done = change(&f, overriding(None)).await;
    let ArchetypeChanged::Done { old: None, new: Some(new), .. } = done else { panic!("{done:?}") };
    assert_eq!((new.archetype, new.confidence), (HighFlexibility, 1.0));
    assert_eq!(new.manual.as_ref().unwrap().by, "root");
    let saved = f.store.save_archetype(user("ann"), computed(BigSpender), before).await.unwrap();
    assert_eq!(saved, ArchetypeSaved::Superseded);
    assert_eq!(f.compute("ann", BigSpender).await, ArchetypeSaved::Superseded, "nor one that began after it");
    assert_eq!(f.person("ann").await.archetype.unwrap(), new);
}

async fn an_override_that_has_ended_gives_way(engine: Engine) {
    let f = Fixture::new(engine).await;
    change(&f, overriding(Some("2026-03-01T12:00:00Z"))).await;
    assert_eq!(
        change(&f, ArchetypeChange::Reset { computed: None, version: FactsVersion::default() }).await,
        ArchetypeChanged::NothingToReset
    );
    assert_eq!(f.compute("ann", BigSpender).await, ArchetypeSaved::Saved);
    assert_eq!(f.person("ann").await.archetype.unwrap().manual, None);
}

async fn recalculation_keeps_an_override_and_reset_ends_it(engine: Engine) {
    let f = Fixture::new(engine).await;
    change(&f, overriding(None)).await;
    let version = f.person("ann").await.version;
    let recalculate =
        ArchetypeChange::Recalculate { computed: Some(computed(BigSpender)), version: version.clone() };
    let kept = change(&f, recalculate).await;
    assert!(
        matches!(&kept, ArchetypeChanged::OverrideKept { kept, .. } if kept.archetype == HighFlexibility)
    );

    let stale = ArchetypeChange::Reset { computed: None, version: FactsVersion::default() };
    assert_eq!(change(&f, stale).await, ArchetypeChanged::Superseded);
    let reset = ArchetypeChange::Reset { computed: Some(computed(BigSpender)), version };
    let done = change(&f, reset).await;
    assert!(
        matches!(&done, ArchetypeChanged::Done { new: Some(new), .. } if new.archetype == BigSpender && new.manual.is_none())
    );
    let version = f.person("ann").await.version;
    let none = ArchetypeChange::Recalculate { computed: None, version };
    assert!(matches!(change(&f, none).await, ArchetypeChanged::Done { old: Some(_), new: None, .. }));
    assert_eq!(f.person("ann").await.archetype, None);
    assert_eq!(f.store.verify_audit(None).await.unwrap().entries, 4, "override, kept, reset, recalculation");
}

async fn opting_out_removes_the_archetype_also_against_a_writer_about_to_write(engine: Engine) {
    let f = Fixture::new(engine).await;
    assert_eq!(f.compute("ann", BigSpender).await, ArchetypeSaved::Saved);
    let version = f.person("ann").await.version;
    f.facts([profile("ann", None, Some(true))]).await;
    let ann = f.person("ann").await;
    assert!(ann.profile.opted_out && ann.archetype.is_none());
    for version in [version, ann.version] {
        let saved = f.store.save_archetype(user("ann"), computed(BigSpender), version).await.unwrap();
        assert_eq!(saved, ArchetypeSaved::Superseded);
    }
    assert_eq!(change(&f, overriding(None)).await, ArchetypeChanged::OptedOut);
    assert_eq!(f.person("ann").await.archetype, None);
    assert_eq!(f.store.audit_head().await.unwrap(), None);

    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    assert_eq!(f.person("ann").await.version.stale_revision, None, "nothing to compute");
    f.facts([profile("ann", None, Some(false))]).await;
    assert_eq!(f.compute("ann", BigSpender).await, ArchetypeSaved::Saved);
}

async fn the_feed_tells_whose_facts_have_changed(engine: Engine) {
    let f = Fixture::new(engine).await;
    let start = f.store.changes_head().await.unwrap();
    assert_eq!(f.store.changes_since(start).await.unwrap(), (start, None));
    let users = |ids: &[&str]| Some(Changed::Users(ids.iter().map(|id| user(id)).collect()));

    f.facts([FactRow::DateChangeRequest(request(1, "bob", "ann"))]).await;
    let (head, changed) = f.store.changes_since(start).await.unwrap();
    assert_eq!(changed, users(&["ann", "bob"]));
    f.facts([member("home", "eve"), night("home", "2026-03-15", "eve")]).await;
    let (head, changed) = f.store.changes_since(head).await.unwrap();
    assert_eq!(changed, users(&["eve"]));
    f.compute("ann", BigSpender).await;
    let (head, changed) = f.store.changes_since(head).await.unwrap();
    assert_eq!(changed, users(&["ann"]));
    f.compute("ann", BigSpender).await;
    assert_eq!(f.store.changes_since(head).await.unwrap(), (head, None), "nothing that shows");
    change(&f, overriding(None)).await;
    let (head, changed) = f.store.changes_since(head).await.unwrap();
    assert_eq!(changed, users(&["ann"]));
    assert_eq!(f.store.changes_since(head + 7).await.unwrap(), (head, Some(Changed::Everybody)));
}

async fn a_change_of_very_many_users_is_a_change_of_everybody(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([member("home", "ann")]).await;
    let start = f.store.changes_head().await.unwrap();
    let rows = (0..3_000).map(|n| request(n, &format!("a{n}"), &format!("b{n}")));
    let applied = f.facts(rows.map(FactRow::DateChangeRequest)).await;
    assert_eq!((applied.upserted, applied.stale_users), (3_000, 6_000));
    assert_eq!(f.store.changes_since(start).await.unwrap(), (start + 1, Some(Changed::Everybody)));
    assert_eq!(f.person("a7").await.version.stale_revision, Some(start + 1));
}

async fn a_poller_behind_the_feed_is_told_everybody(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([member("home", "ann"), member("home", "bob"), member("home", "eve")]).await;
    f.sql(
        "DELETE FROM nudge_user_changes WHERE revision <= 2",
        "DELETE FROM nudge.user_changes WHERE revision <= 2",
    )
    .await
    .unwrap();
    assert_eq!(f.store.changes_since(1).await.unwrap(), (3, Some(Changed::Everybody)));
    assert_eq!(f.store.changes_since(2).await.unwrap(), (3, Some(Changed::Users(vec![user("eve")]))));
}

async fn people_are_listed_in_pages_without_those_who_opted_out(engine: Engine) {
    let f = Fixture::new(engine).await;
    let requests = [request(1, "ann", "bob"), request(2, "ann", "cyd")].map(FactRow::DateChangeRequest);
    f.facts(requests).await;
    f.facts([member("home", "dan"), profile("eve", None, None), profile("bob", None, Some(true))]).await;
    let mut people = Vec::new();
    loop {
        let page = f.store.people_after(people.last(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        people.extend(page);
    }
    assert_eq!(people, ["ann", "cyd", "dan", "eve"].map(user));
}

on_both!(
    a_saved_archetype_is_read_back_and_the_user_is_stale_no_more,
    a_write_from_facts_that_have_changed_is_dropped_and_the_user_stays_stale,
    override_survives_a_computation_that_began_before_it,
    an_override_that_has_ended_gives_way,
    recalculation_keeps_an_override_and_reset_ends_it,
    opting_out_removes_the_archetype_also_against_a_writer_about_to_write,
    the_feed_tells_whose_facts_have_changed,
    a_change_of_very_many_users_is_a_change_of_everybody,
    a_poller_behind_the_feed_is_told_everybody,
    people_are_listed_in_pages_without_those_who_opted_out,
);
