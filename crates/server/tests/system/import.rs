//! `nudge import`

use std::path::Path;

use crate::support::{Folder, Ran, number, texts};

const TABLES: [(&str, &str, &str); 5] = [
    (
        "profiles",
        "id,role,personalization_opt_out,created_at\nann,member,false,2026-01-01T00:00:00Z\nbob,admin,,\n",
        "SELECT id || ' ' || role || ' ' || personalization_opt_out FROM profiles ORDER BY id",
    ),
    (
        "leases",
        "id,name,created_at\nhome,\"Elm Street 5, left\",2026-01-01T00:00:00+02\n",
        "SELECT id || ' ' || name || ' ' || created_at FROM leases",
    ),
    (
        "lease_members",
        "lease_id,user_id\nhome,ann\nhome,bob\n",
        "SELECT lease_id || ' ' || user_id FROM lease_members ORDER BY user_id",
    ),
    (
        "lease_nights",
        "lease_id,night,held_by,base_price,market_demand\nhome,2027-03-15,bob,120.50,1.2\nhome,2027-03-16,,99,\n",
        "SELECT night || ' ' || coalesce(held_by, '-') || ' ' || base_price || ' ' || market_demand FROM lease_nights ORDER BY night",
    ),
    (
        "date_change_requests",
        "id,lease_id,requester_id,receiver_id,transaction_type,target_night,offered_night,proposed_price,base_price,status,created_at,responded_at\n\
         r1,home,ann,bob,buyout,2026-02-01,,140,120.5,accepted,2026-01-20T10:00:00Z,2026-01-20T12:30:00Z\n\
         r2,home,ann,bob,swap,2026-02-03,2026-02-05,,120.5,rejected,2026-01-21T10:00:00Z,2026-01-21T10:30:00Z\n",
        "SELECT id || ' ' || transaction_type || ' ' || status FROM date_change_requests ORDER BY id",
    ),
];

fn import(folder: &Folder, table: &str, file: &Path, more: &[&str]) -> Ran {
    folder.run(&[&["import", table, file.to_str().unwrap()], more].concat())
}

/// Writes the rows of a CSV text as NDJSON, empty cells left out.
fn ndjson(csv: &str) -> String {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let line = |record: csv::StringRecord| {
        let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        let map: serde_json::Map<_, _> = cells.map(|(name, cell)| (name.to_owned(), cell.into())).collect();
        format!("{}\n", serde_json::Value::Object(map))
    };
    reader.records().map(|record| line(record.unwrap())).collect()
}

#[test]
fn all_five_tables_come_in_the_same_from_csv_and_ndjson() {
    let (from_csv, from_ndjson) = (Folder::new(), Folder::new());
    for (table, csv, rows) in TABLES {
        let lines = csv.lines().count() - 1;
        for (folder, name, text) in
            [(&from_csv, "rows.csv", csv.to_owned()), (&from_ndjson, "rows.ndjson", ndjson(csv))]
        {
            let file = folder.file(name, text);
            let done = import(folder, table, &file, &[]).good();
            assert!(
                done.starts_with(&format!("{table}: {lines} rows imported, 0 were there already")),
                "{done}"
            );
            let again = import(folder, table, &file, &["--json"]).json();
            assert_eq!((&again["upserted"], &again["unchanged"]), (&0.into(), &lines.into()), "{table}");
        }
        let stored = texts(&from_csv.database(), rows);
        assert_eq!(stored.len(), lines, "{stored:?}");
        assert_eq!(stored, texts(&from_ndjson.database(), rows), "{table}");
    }
    assert_eq!(
        texts(&from_csv.database(), TABLES[3].2),
        ["2027-03-15 bob 120.5 1.2", "2027-03-16 - 99.0 1.0"]
    );
    assert_eq!(
        texts(&from_csv.database(), TABLES[1].2),
        ["home Elm Street 5, left 2025-12-31T22:00:00.000000Z"]
    );
    // What came in is what the service decides from.
    let shown = from_csv.run(&["archetype", "show", "ann", "--json"]).json();
    assert_ne!(shown["signals"]["avgTransactionValue"], 0.0, "{shown}");
}

#[test]
fn a_bad_row_is_named_by_line_and_column_and_nothing_is_imported() {
    let folder = Folder::new();
    let nights =
        |cell: &str| format!("lease_id,night,base_price\nhome,2027-03-14,100\nhome,2027-03-15,{cell}\n");
    for (cell, says) in [
        ("NaN", "is not a number"),
        ("inf", "is not a number"),
        ("-5", "is negative"),
        ("0", "is not above 0"),
        ("1e12", "is above 100000"),
        ("100000.01", "is above 100000"),
        ("1.234", "has more than two decimals"),
        ("", "is missing"),
        ("12,50", "row"),
    ] {
        let file = folder.file("nights.csv", nights(cell));
        let complaint = import(&folder, "lease_nights", &file, &[]).refused();
        let column = if says == "row" { "column `row`" } else { "column `base_price`" };
        assert!(complaint.contains("nights.csv:3:") && complaint.contains(column), "{cell}: {complaint}");
        assert!(says == "row" || complaint.contains(says), "{cell}: {complaint}");
        assert!(complaint.contains("1 bad rows; nothing was imported"), "{complaint}");
        assert!(!folder.data().join("nudge.db").exists(), "{cell}: a file was opened for writing");
    }
    for (table, text, says) in [
        (
            "lease_nights",
            r#"{"lease_id":"h","night":"2027-03-15","base_price":NaN}"#,
            "1: column `51` is where the JSON breaks",
        ),
        (
            "lease_nights",
            r#"{"lease_id":"h","night":"2027-03-15","base_price":-1}"#,
            "1: column `base_price` is negative",
        ),
        (
            "lease_nights",
            r#"{"lease_id":"h","night":"2027-03-15","base_price":1e12}"#,
            "1: column `base_price` is above",
        ),
        (
            "lease_nights",
            r#"{"lease_id":"h","night":"2027-02-30","base_price":1}"#,
            "1: column `night` is not a date",
        ),
        (
            "leases",
            "{\"id\":\"a\"}\n\n{\"id\":\"b\",\"nmae\":\"x\"}",
            "3: column `nmae` is not a column of leases",
        ),
        ("leases", "{\"id\":\"a\"}\n{\"id\":\"a\"}", "2: column `key` stands in line 1 already"),
        ("leases", "{\"id\":\"a\"}\n[1]", "2: column"),
        ("profiles", r#"{"id":"a","role":"owner"}"#, "1: column `role` is not one of"),
        ("profiles", r#"{"id":"x,id.not.is.null"}"#, "1: column `id`"),
        ("lease_members", r#"{"lease_id":"a"}"#, "1: column `user_id` is missing"),
        (
            "date_change_requests",
            r#"{"id":"r","requester_id":"a","receiver_id":"a","transaction_type":"crash","target_night":"2027-01-01","status":"pending","created_at":"2026-01-01T00:00:00Z"}"#,
            "1: column `receiver_id` is the requester",
        ),
    ] {
        let file = folder.file("rows.ndjson", text);
        let complaint = import(&folder, table, &file, &[]).refused();
        assert!(complaint.contains(&format!("rows.ndjson:{says}")), "{text}: {complaint}");
    }
}

#[test]
fn one_bad_row_among_many_good_ones_keeps_all_of_them_out() {
    let folder = Folder::with_people(20);
    let before = number(&folder.database(), "SELECT count(*) FROM profiles", []);
    let mut text = String::from("id\n");
    for n in 0..5_000 {
        text.push_str(&format!("new-{n}\n"));
    }
    text.push_str("not valid\n");
    let file = folder.file("people.csv", &text);
    let complaint = import(&folder, "profiles", &file, &[]).refused();
    assert!(complaint.contains("people.csv:5002: column `id`"), "{complaint}");
    assert_eq!(number(&folder.database(), "SELECT count(*) FROM profiles", []), before);

    let many = folder.file("many.csv", format!("id\n{}", "a b\n".repeat(50)));
    let complaint = import(&folder, "profiles", &many, &[]).refused();
    assert!(complaint.contains("… and 30 more") && complaint.contains("50 bad rows"), "{complaint}");
}

#[test]
fn a_bad_header_a_missing_file_and_an_unknown_format_are_said() {
    let folder = Folder::new();
    let lacks = folder.file("lacks.csv", "lease_id,night\n");
    let unknown = folder.file("unknown.csv", "id,nmae\na,b\n");
    let other = folder.file("rows.txt", "id\na\n");
    for (table, file, says) in [
        ("lease_nights", lacks, "lacks.csv:1: the header lacks base_price"),
        ("leases", unknown, "unknown.csv:1: `nmae` is not a column of leases"),
        ("leases", folder.path().join("none.csv"), "cannot read"),
        ("leases", other.clone(), "--format csv"),
    ] {
        let complaint = import(&folder, table, &file, &[]).refused();
        assert!(complaint.contains(says), "{complaint}");
    }
    assert_eq!(import(&folder, "user_archetypes", &other, &[]).code, Some(2), "not a table of facts");
    let checked = import(&folder, "leases", &other, &["--format", "csv", "--dry-run"]).good();
    assert!(checked.contains("1 rows of leases are good; nothing was imported"), "{checked}");
    assert!(!folder.data().exists(), "a dry run has made a folder");
}
