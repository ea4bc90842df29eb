//! Who may see whom, as tables, and the check of a tree against them.

use crate::source::{Crate, Dependency, File, Tree};

/// Crates by floor; each may depend on lower floors only.
const FLOORS: [(&str, u8); 17] = [
    ("oslo-messaging-config", 1),
    ("oslo-messaging-proto", 1),
    ("oslo-messaging-amqp", 1),
    ("oslo-messaging-macros", 1),
    ("oslo-messaging-core", 2),
    ("oslo-messaging-rabbit", 3),
    ("oslo-messaging-kafka", 3),
    ("oslo-messaging-testkit", 3),
    ("oslo-messaging", 4),
    ("oslo-messaging-cli", 5),
    ("oslo-messaging-faults", 5),
    ("oslo-messaging-python", 5),
    ("oslo-messaging-examples", 5),
    ("oslo-messaging-fuzz", 5),
    ("oslo-messaging-growth", 5),
    ("oslo-messaging-instructions", 5),
    ("oslo-messaging-peers", 5),
];

/// Crates that may be depended on by a few only.
const ONLY: [(&str, &[&str]); 1] = [(
    "oslo-messaging-amqp",
    &[
        "oslo-messaging-rabbit",
        "oslo-messaging-fuzz",
        "oslo-messaging-growth",
        "oslo-messaging-instructions",
    ],
)];

/// What tests may use although it lies above: (who, whom); `*` is everyone.
const TESTS_MAY: [(&str, &str); 2] = [
    ("*", "oslo-messaging-testkit"),
    ("oslo-messaging-macros", "oslo-messaging"),
];

/// Crates that know no runtime.
const WITHOUT_TOKIO: [&str; 3] = [
    "oslo-messaging-config",
    "oslo-messaging-proto",
    "oslo-messaging-macros",
];

/// Files of the AMQP crate that may name tokio: the one task, its way out, and the handles that talk to it.
const AMQP_TOKIO: [&str; 4] = ["src/task", "src/outlet", "src/handle", "src/lib.rs"];

/// Modules of `core` by rank; each may see lower ranks and its own.
const RANKS: [(&str, u8); 19] = [
    ("error", 0),
    ("events", 0),
    ("clock", 0),
    ("ids", 0),
    ("lock", 0),
    ("context", 0),
    ("request_context", 0),
    ("target", 0),
    ("driver", 1),
    ("serializer", 1),
    ("config", 1),
    // What a transport holds for the clients above it.
    ("replies", 2),
    ("two_part", 2),
    ("transport", 3),
    ("layer", 3),
    ("memory", 3),
    ("server", 4),
    ("rpc", 5),
    ("notify", 5),
];

/// Modules of `core` that never see each other, though they are of one rank.
const APART: [(&str, &str); 2] = [("rpc", "notify"), ("notify", "rpc")];

/// Every broken rule, a line each: where, what, and why not.
pub(crate) fn violations(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for one in &tree.crates {
        check_manifest(one, &mut found);
        for file in one.files.iter().filter(|file| !file.is_test()) {
            check_file(one, file, &mut found);
        }
    }
    found
}

fn floor(name: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, floor)| *floor)
}

fn check_manifest(one: &Crate, found: &mut Vec<String>) {
    let place = format!("{}/Cargo.toml", one.folder);
    let Some(own) = floor(&one.name) else {
        found.push(format!(
            "{place}: {} has no floor; give it one in layers/rules.rs",
            one.name
        ));
        return;
    };
    for dependency in &one.dependencies {
        if dependency.name == "tokio" && WITHOUT_TOKIO.contains(&one.name.as_str()) {
            found.push(format!("{place}: {} knows no tokio", one.name));
        }
        let Some(theirs) = floor(&dependency.name) else {
            continue;
        };
        if dependency.name == one.name || tests_may(one, dependency) {
            continue;
        }
        let allowed = ONLY
            .iter()
            .find(|(name, _)| *name == dependency.name)
            .map(|(_, users)| *users);
        if theirs >= own {
            found.push(format!(
                "{place}: {} → {} points up or sideways",
                one.name, dependency.name
            ));
        } else if allowed.is_some_and(|users| !users.contains(&one.name.as_str())) {
            found.push(format!(
                "{place}: {} may be used only by {:?}",
                dependency.name,
                allowed.unwrap_or(&[])
            ));
        }
    }
}

fn tests_may(one: &Crate, dependency: &Dependency) -> bool {
    let matches =
        |(who, whom): &(&str, &str)| (*who == "*" || *who == one.name) && *whom == dependency.name;
    dependency.for_tests && TESTS_MAY.iter().any(matches)
}

fn check_file(one: &Crate, file: &File, found: &mut Vec<String>) {
    let place = format!("{}/{}", one.folder, file.path);
    let mut seen: Vec<String> = Vec::new();
    for path in file.paths() {
        let parts: Vec<&str> = path.split("::").collect();
        let reason = glob(&parts)
            .or_else(|| roof(one, file, &parts))
            .or_else(|| rank(one, file, &parts))
            .or_else(|| runtime(one, file, &parts));
        // One import of many things is one mistake.
        if let Some(reason) = reason.filter(|reason| !seen.contains(reason)) {
            found.push(format!("{place}: {path}: {reason}"));
            seen.push(reason);
        }
    }
    if one.name == "oslo-messaging-core" && file.path == "src/lib.rs" {
        for module in &one.modules {
            if !RANKS.iter().any(|(known, _)| known == module) {
                found.push(format!(
                    "{place}: the module {module} has no rank; give it one in layers/rules.rs"
                ));
            }
        }
    }
}

fn glob(parts: &[&str]) -> Option<String> {
    (parts.last() == Some(&"*")).then(|| "no glob imports outside tests".to_owned())
}

/// Nothing is reached through the crate's root but its modules.
fn roof(one: &Crate, file: &File, parts: &[&str]) -> Option<String> {
    let through = match parts {
        ["crate", name, ..] => !one.modules.iter().any(|module| module == name),
        ["super", "super", ..] => {
            return Some("super::super hides where it leads; begin with crate".to_owned());
        }
        ["super", ..] => file.depth() == 1,
        _ => false,
    };
    through.then(|| "imports through lib.rs; name the file that defines it".to_owned())
}

fn rank(one: &Crate, file: &File, parts: &[&str]) -> Option<String> {
    let (from, to) = (file.module()?, *parts.get(1)?);
    if one.name != "oslo-messaging-core" || parts[0] != "crate" {
        return None;
    }
    let of = |name: &str| {
        RANKS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, rank)| *rank)
    };
    let up = of(to)? > of(from)?;
    (up || APART.contains(&(from, to)))
        .then(|| format!("{from} sees {to}, which lies above or beside it"))
}

fn runtime(one: &Crate, file: &File, parts: &[&str]) -> Option<String> {
    let barred = WITHOUT_TOKIO.contains(&one.name.as_str())
        || (one.name == "oslo-messaging-amqp"
            && !AMQP_TOKIO
                .iter()
                .any(|allowed| file.path.starts_with(allowed)));
    (barred && parts[0] == "tokio").then(|| "this file must not know tokio".to_owned())
}
