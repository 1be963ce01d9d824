//! `nudge explain`

use crate::support::{Folder, Keys, Question};

#[test]
fn a_recorded_decision_is_computed_again_and_compared() {
    let folder = Folder::with_people(20);
    let server = folder.start(&["serve"]);
    let keys = Keys::of(&folder);
    let question = Question::all(&folder.database()).remove(0);
    let answer = server.client().get(&question.path(), Some(&keys.service)).unwrap().body;
    let id = answer["recommendationId"].as_str().unwrap().to_owned();
    drop(server);

    let text = folder.run(&["explain", &id]).good();
    assert!(text.contains("Computed again from the recorded facts: the same answer."), "{text}");
    assert!(text.contains(answer["metadata"]["rule"].as_str().unwrap()), "{text}");
    let told = folder.run(&["explain", &id, "--json"]).json();
    assert_eq!(told["computedAgain"], "same");
    assert_eq!(told["options"], answer["options"]);
    assert_eq!(told["userId"], question.user.as_str());

    let conn = folder.database();
    conn.execute("UPDATE recommendation_logs SET rule = 'default' WHERE id = ?", [&id]).unwrap();
    let changed = folder.run(&["explain", &id]);
    assert_eq!(changed.code, Some(1), "{changed:?}");
    assert!(changed.out.contains("ANOTHER answer"), "{}", changed.out);
}

#[test]
fn the_anonymous_default_is_explained_too() {
    let folder = Folder::new();
    let server = folder.start(&["serve"]);
    let keys = Keys::of(&folder);
    let path = "/functions/v1/transaction-recommendations?userId=test&targetDate=2026-03-15&roommateId=test2";
    let answer = server.client().get(path, Some(&keys.anon)).unwrap().body;
    let text = folder.run(&["explain", answer["recommendationId"].as_str().unwrap()]).good();
    assert!(text.contains("neutral default") && text.contains("the same answer"), "{text}");
}

#[test]
fn an_unknown_id_and_a_missing_database_are_said_clearly() {
    let folder = Folder::new();
    let id = "0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff";
    let complaint = folder.run(&["explain", id]).refused();
    assert!(complaint.contains("there is no database at data/nudge.db"), "{complaint}");
    assert!(!folder.data().exists(), "asking has made a folder");
    drop(folder.start(&["serve"]));
    let complaint = folder.run(&["explain", id]).refused();
    assert!(complaint.contains(&format!("there is no recommendation {id}")), "{complaint}");
    let bad = folder.run(&["explain", "not-an-id"]);
    assert_eq!(bad.code, Some(2), "{bad:?}");
}
