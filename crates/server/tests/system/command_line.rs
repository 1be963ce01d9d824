//! Help, versions, completions.

use crate::support::Folder;

const COMMANDS: [&[&str]; 47] = [
    &["demo"],
    &["serve"],
    &["keys"],
    &["token"],
    &["import"],
    &["explain"],
    &["report"],
    &["archetype"],
    &["archetype", "show"],
    &["archetype", "recalculate"],
    &["archetype", "override"],
    &["archetype", "reset"],
    &["job"],
    &["job", "run"],
    &["job", "status"],
    &["job", "cancel"],
    &["job", "history"],
    &["job", "schedule"],
    &["alerts"],
    &["alerts", "list"],
    &["alerts", "history"],
    &["alerts", "silence"],
    &["alerts", "unsilence"],
    &["alerts", "test"],
    &["audit"],
    &["audit", "verify"],
    &["logs"],
    &["logs", "drain"],
    &["logs", "drain", "create"],
    &["logs", "drain", "list"],
    &["logs", "drain", "test"],
    &["logs", "drain", "delete"],
    &["logs", "user"],
    &["db"],
    &["db", "push"],
    &["db", "status"],
    &["db", "diff"],
    &["db", "dump"],
    &["db", "restore"],
    &["rls"],
    &["rls", "verify"],
    &["doctor"],
    &["config"],
    &["classify"],
    &["recommend"],
    &["completions"],
    &[],
];

/// The help without the settings, which every command takes and docs/CONFIGURATION.md lists.
fn help(command: &[&str]) -> String {
    let text = Folder::new().feed(&[command, &["--help"]].concat(), "").good();
    let mut kept = String::new();
    let mut in_settings = false;
    for line in text.lines() {
        in_settings =
            line.starts_with("Settings (") || (in_settings && (line.starts_with(' ') || line.is_empty()));
        if !in_settings {
            kept.push_str(&format!("{}\n", line.trim_end()));
        }
    }
    kept
}

#[test]
fn the_help_of_every_command_is_what_was_agreed() {
    let all: String = COMMANDS
        .iter()
        .map(|command| format!("===== nudge {}\n{}\n", command.join(" "), help(command)))
        .collect();
    insta::assert_snapshot!("help", all);
}

#[test]
fn every_command_shows_examples_or_leads_to_them() {
    for command in COMMANDS {
        let text = help(command);
        // Below `archetype` the group has the examples; other groups have commands that have them.
        let leads = command.len() == 2 && matches!(command[0], "alerts" | "archetype" | "job")
            || matches!(command, ["audit" | "db" | "rls" | "logs"] | ["logs", "drain"]);
        let shows = text.contains("Examples:") || text.contains("Start here:");
        assert!(shows || leads, "nudge {} --help:\n{text}", command.join(" "));
    }
}

#[test]
fn every_command_is_in_the_list_of_this_test() {
    let text = help(&[]);
    let listed = text.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap().lines().skip(1);
    for line in listed {
        let name = line.split_whitespace().next().unwrap();
        assert!(name == "help" || COMMANDS.contains(&[name].as_slice()), "`{name}` is new");
    }
}

#[test]
fn a_typo_gets_a_hint_and_status_2() {
    let folder = Folder::new();
    let ran = folder.feed(&["recomend"], "");
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("recommend"), "{}", ran.err);
    assert_eq!(folder.feed(&[], "").code, Some(2), "no command");
    assert_eq!(folder.feed(&["serve", "--port", "many"], "").code, Some(1));
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(
        Folder::new().feed(&["--version"], "").good(),
        format!("nudge {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_are_scripts_that_their_shells_take() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.feed(&["completions", shell], "").good();
        for word in ["demo", "recalculate", "--data-dir"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.contains(word), "{word} in the script of {shell}");
        }
    }
    let script = folder.feed(&["completions", "bash"], "").good();
    let file = folder.file("nudge.bash", script);
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", "source \"$0\" && complete -p nudge", file.to_str().unwrap()]);
    let ran = crate::support::finish(
        shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()),
        None,
    );
    assert!(ran.good().contains("-F _nudge"));
    assert_eq!(folder.feed(&["completions", "tcsh"], "").code, Some(2));
}
