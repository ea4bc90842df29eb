//! Whether every public item of the published crates is shown in use: by a code block of its own documentation, or by
//! one of the same file that names it (a method as `.method`, `Type::method` or, in an impl, `fn method`). `cargo test` compiles and runs those.
//!
//! What `pub` means is left to the compiler: the lint `unreachable_pub` is an error here, so that a `pub` item can be
//! reached from outside. Fields, variants, modules, re-exports and what trait impls repeat need no example of their own.

use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, TraitItem, Visibility};

/// The published libraries.
const CRATES: [&str; 7] = [
    "proto",
    "amqp",
    "core",
    "config",
    "drivers/rabbit",
    "drivers/kafka",
    "oslo-messaging",
];

/// Tests, and what is public for macros and benchmarks only and hidden from the documentation.
const UNSHOWN: [&str; 6] = [
    "tests.rs",
    "tls_tests.rs",
    "testing.rs",
    "internals.rs",
    "private.rs",
    "private_remote.rs",
];

#[test]
fn every_public_item_has_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut lacking = Vec::new();
    let mut seen = 0;
    for one in CRATES {
        let src = root.join("crates").join(one).join("src");
        for file in rust_files(&src) {
            let text = fs::read_to_string(&file).expect("a source file can be read");
            let items = syn::parse_file(&text).expect("a source file parses").items;
            let name = file
                .strip_prefix(&root)
                .unwrap_or(&file)
                .display()
                .to_string();
            seen += check(&items, &name, &mut lacking);
        }
    }
    assert!(
        seen > 100,
        "only {seen} public items found: is the walk broken?"
    );
    assert!(
        lacking.is_empty(),
        "{} of {seen} public items have no example:\n{}",
        lacking.len(),
        lacking.join("\n")
    );
}

#[test]
fn an_item_without_an_example_is_found_wherever_it_stands() {
    let source = r#"
        /// ```
        /// shown();
        /// ```
        pub fn shown() {}
        /// Not shown.
        pub fn bare() {}
        pub(crate) fn inner() {}
        #[doc(hidden)]
        pub fn hidden() {}
        pub struct Bare;
        impl Bare {
            /// Nothing.
            pub fn method(&self) {}
            fn own(&self) {}
        }
        impl Clone for Bare { fn clone(&self) -> Self { Bare } }
        pub trait Spoken { fn word(&self); }
        #[cfg(test)]
        mod tests { pub fn free() {} }
        pub mod inside { pub const LIMIT: u8 = 1; }
        /// ```
        /// Shown::new().used();
        /// ```
        pub struct Shown;
        impl Shown {
            pub fn new() -> Self { Shown }
            pub fn used(&self) {}
            pub fn use_less(&self) {}
            pub fn used_up(&self) {}
        }
    "#;
    let mut lacking = Vec::new();
    let items = syn::parse_file(source).expect("the sample parses").items;
    let seen = check(&items, "sample", &mut lacking);
    assert_eq!(seen, 12);
    let expected = [
        "bare",
        "Bare",
        "Bare::method",
        "Spoken",
        "Spoken::word",
        "LIMIT",
        "Shown::use_less",
        "Shown::used_up",
    ];
    let expected: Vec<String> = expected
        .iter()
        .map(|name| format!("sample: {name}"))
        .collect();
    assert_eq!(lacking, expected);
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if name.ends_with(".rs") && !UNSHOWN.contains(&name.as_str()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Counts the public items of a file and notes those without an example.
fn check(items: &[Item], file: &str, lacking: &mut Vec<String>) -> usize {
    let mut found = Vec::new();
    collect(items, &mut found);
    let shown: String = found.iter().map(|one| one.example.as_str()).collect();
    let bare = found.iter().filter(|one| !one.is_shown_by(&shown));
    lacking.extend(bare.map(|one| format!("{file}: {}", one.name())));
    found.len()
}

/// A public item: its type or trait if it is a method, its name, and the code blocks of its documentation.
struct Public {
    owner: Option<String>,
    ident: String,
    example: String,
}

impl Public {
    fn name(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{owner}::{}", self.ident),
            None => self.ident.clone(),
        }
    }

    fn is_shown_by(&self, examples: &str) -> bool {
        let named = |text: &str| {
            examples.match_indices(text).any(|(at, _)| {
                let rest = examples[at + text.len()..].chars().next();
                rest.is_none_or(|next| !next.is_alphanumeric() && next != '_')
            })
        };
        !self.example.is_empty()
            || match &self.owner {
                Some(owner) => {
                    let forms = [".", &format!("{owner}::"), "fn "];
                    forms
                        .iter()
                        .any(|form| named(&format!("{form}{}", self.ident)))
                }
                None => named(&self.ident),
            }
    }
}

fn collect(items: &[Item], found: &mut Vec<Public>) {
    for item in items {
        match item {
            Item::Fn(one) => note(found, &one.vis, &one.attrs, None, &one.sig.ident),
            Item::Struct(one) => note(found, &one.vis, &one.attrs, None, &one.ident),
            Item::Enum(one) => note(found, &one.vis, &one.attrs, None, &one.ident),
            Item::Const(one) => note(found, &one.vis, &one.attrs, None, &one.ident),
            Item::Static(one) => note(found, &one.vis, &one.attrs, None, &one.ident),
            Item::Type(one) => note(found, &one.vis, &one.attrs, None, &one.ident),
            Item::Trait(one) if !is_hidden(&one.attrs) => {
                note(found, &one.vis, &one.attrs, None, &one.ident);
                for method in &one.items {
                    if let TraitItem::Fn(method) = method {
                        note(
                            found,
                            &one.vis,
                            &method.attrs,
                            Some(&one.ident),
                            &method.sig.ident,
                        );
                    }
                }
            }
            Item::Impl(one) if one.trait_.is_none() && !is_for_tests(&one.attrs) => {
                let owner = match &*one.self_ty {
                    syn::Type::Path(path) => path.path.segments.last().map(|last| &last.ident),
                    _ => None,
                };
                for member in &one.items {
                    match member {
                        ImplItem::Fn(one) => {
                            note(found, &one.vis, &one.attrs, owner, &one.sig.ident);
                        }
                        ImplItem::Const(one) => {
                            note(found, &one.vis, &one.attrs, owner, &one.ident)
                        }
                        _ => {}
                    }
                }
            }
            Item::Mod(one) if !is_hidden(&one.attrs) => {
                collect(one.content.as_ref().map_or(&[], |(_, items)| items), found);
            }
            _ => {}
        }
    }
}

fn note(
    found: &mut Vec<Public>,
    visibility: &Visibility,
    attributes: &[Attribute],
    owner: Option<&syn::Ident>,
    ident: &syn::Ident,
) {
    if matches!(visibility, Visibility::Public(_)) && !is_hidden(attributes) {
        found.push(Public {
            owner: owner.map(ToString::to_string),
            ident: ident.to_string(),
            example: example(attributes),
        });
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| match &one.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        _ => false,
    })
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    is_for_tests(attributes)
        || attributes.iter().any(|one| match &one.meta {
            Meta::List(list) => {
                list.path.is_ident("doc") && list.tokens.to_string().contains("hidden")
            }
            _ => false,
        })
}

/// The code blocks of the documentation; of an included file (a README) not the text, which is not here.
fn example(attributes: &[Attribute]) -> String {
    let mut code = String::new();
    let mut within = false;
    for one in attributes {
        let Meta::NameValue(pair) = &one.meta else {
            continue;
        };
        if !pair.path.is_ident("doc") {
            continue;
        }
        let Expr::Lit(text) = &pair.value else {
            code.push_str("an included file\n");
            continue;
        };
        if let Lit::Str(text) = &text.lit {
            for line in text.value().lines() {
                if line.trim_start().starts_with("```") {
                    within = !within;
                } else if within {
                    code.push_str(line);
                    code.push('\n');
                }
            }
        }
    }
    code
}
