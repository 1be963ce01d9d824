//! The feed of changed users: numbers rise in the order of commits, and listeners are told.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{AsyncMessage, NoTls};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_read_a_number_is_never_given_a_lower_one() {
    const WRITERS: usize = 6;
    const WRITES: usize = 40;
    let database = Arc::new(Database::migrated().await);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let database = Arc::clone(&database);
        writers.spawn(async move {
            let client = database.owner().await;
            for n in 0..WRITES {
                // Some are slow to commit, some never do.
                let slow = if n % 5 == writer % 5 { "SELECT pg_sleep(0.01);" } else { "" };
                let end = if n % 7 == 3 { "ROLLBACK" } else { "COMMIT" };
                client
                    .run(&format!(
                        "BEGIN; INSERT INTO nudge.user_changes (user_id) VALUES ('u{writer}'), (NULL); {slow} {end}"
                    ))
                    .await;
            }
        });
    }
    let reader = database.owner().await;
    let mut seen: Vec<i64> = Vec::new();
    while !writers.is_empty() {
        while writers.try_join_next().transpose().unwrap().is_some() {}
        let known = seen.last().copied().unwrap_or(0);
        let new = reader
            .column(&format!(
                "SELECT revision FROM nudge.user_changes WHERE revision > {known} ORDER BY revision"
            ))
            .await;
        seen.extend(new.iter().map(|revision| revision.parse::<i64>().unwrap()));
    }
    let all = reader.column("SELECT revision FROM nudge.user_changes ORDER BY revision").await;
    let known = seen.last().copied().unwrap_or(0);
    let after =
        all.iter().map(|revision| revision.parse::<i64>().unwrap()).filter(|revision| *revision > known);
    seen.extend(after);
    assert_eq!(seen.len(), all.len(), "a number turned up behind the reader");
}

#[tokio::test]
async fn every_commit_that_adds_to_the_feed_notifies() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let mut config = database.server.superuser.clone();
    config.dbname(&database.name).user(&database.owner).password("x");
    let (listener, mut connection) = config.connect(NoTls).await.unwrap();
    let (sender, mut notifications) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send((notification.channel().to_owned(), notification.payload().to_owned()));
            }
        }
    });
    listener.run("LISTEN nudge_changes").await;
    owner.run("INSERT INTO nudge.user_changes (user_id) VALUES ('ann'), ('bob')").await;
    owner.run("BEGIN; INSERT INTO nudge.user_changes (user_id) VALUES ('eve'); ROLLBACK").await;
    owner.run("INSERT INTO nudge.user_changes (user_id) VALUES (NULL)").await;
    for newest in ["2", "4"] {
        let told = tokio::time::timeout(Duration::from_secs(5), notifications.recv()).await.unwrap().unwrap();
        assert_eq!(told, ("nudge_changes".to_owned(), newest.to_owned()));
    }
}

#[tokio::test]
async fn a_number_is_not_used_again_after_pruning_and_rollback() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run("INSERT INTO nudge.user_changes (user_id) SELECT 'ann' FROM generate_series(1, 10)").await;
    owner.run("BEGIN; INSERT INTO nudge.user_changes (user_id) VALUES ('eve'); ROLLBACK").await;
    owner.run("DELETE FROM nudge.user_changes").await;
    let next = owner.one("INSERT INTO nudge.user_changes (user_id) VALUES ('ann') RETURNING revision").await;
    assert_eq!(next, "12");
}
