//! Reads a project as the rules need it: crates with their dependencies, files with the paths they name.

use std::fs;
use std::io;
use std::path::Path;

/// All crates of a project.
pub(crate) struct Tree {
    pub(crate) crates: Vec<Crate>,
}

/// One crate.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Its folder from the project's root.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) files: Vec<File>,
    /// Modules declared in `lib.rs` or `main.rs`.
    pub(crate) modules: Vec<String>,
}

/// A crate that a manifest names.
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) for_tests: bool,
}

/// A Rust file, with comments, literals and test-only items blanked.
pub(crate) struct File {
    /// From the crate's folder.
    pub(crate) path: String,
    code: String,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut crates = Vec::new();
        for parent in ["crates", "crates/drivers", "bindings", "benches", "."] {
            let Ok(entries) = fs::read_dir(root.join(parent)) else {
                continue;
            };
            for entry in entries {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let folder = if parent == "." {
                    name.clone()
                } else {
                    format!("{parent}/{name}")
                };
                // Beside the crates' own folder only these two hold crates.
                let manifest = root.join(&folder).join("Cargo.toml");
                if manifest.is_file()
                    && (parent != "." || ["fuzz", "examples"].contains(&name.as_str()))
                {
                    crates.push(Crate::read(root, folder, &fs::read_to_string(manifest)?)?);
                }
            }
        }
        crates.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(Self { crates })
    }
}

impl Crate {
    fn read(root: &Path, folder: String, manifest: &str) -> io::Result<Self> {
        let mut files = Vec::new();
        collect(&root.join(&folder), "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let roots = files
            .iter()
            .filter(|file| ["src/lib.rs", "src/main.rs"].contains(&file.path.as_str()));
        let modules = roots
            .flat_map(|file| declared_modules(&file.code))
            .collect();
        let (name, dependencies) = read_manifest(manifest);
        Ok(Self {
            name,
            folder,
            dependencies,
            files,
            modules,
        })
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            // A crate below a crate (drivers) and build output are not part of it.
            if name != "target" && !entry.path().join("Cargo.toml").is_file() {
                collect(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if name.ends_with(".rs") {
            let code = without_tests(&without_text(&fs::read_to_string(entry.path())?));
            files.push(File { path, code });
        }
    }
    Ok(())
}

/// The package's name and what it depends on. Reads the few forms of TOML that manifests here have.
fn read_manifest(text: &str) -> (String, Vec<Dependency>) {
    let (mut section, mut name, mut dependencies) = (String::new(), String::new(), Vec::new());
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
    {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            if let Some((kind, name)) = section
                .rsplit_once('.')
                .filter(|(kind, _)| kind.ends_with("dependencies"))
            {
                let for_tests = kind.ends_with("dev-dependencies");
                dependencies.push(Dependency {
                    name: name.trim_matches('"').to_owned(),
                    for_tests,
                });
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let key = key
            .trim()
            .split('.')
            .next()
            .unwrap_or_default()
            .trim_matches('"');
        if section == "package" && key == "name" {
            name = value.trim().trim_matches('"').to_owned();
        } else if section.ends_with("dependencies") {
            let renamed = value
                .split_once("package")
                .and_then(|(_, rest)| rest.split('"').nth(1));
            let for_tests = section.ends_with("dev-dependencies");
            dependencies.push(Dependency {
                name: renamed.unwrap_or(key).to_owned(),
                for_tests,
            });
        }
    }
    (name, dependencies)
}

impl File {
    /// Whether the file holds nothing but tests, benches or examples.
    pub(crate) fn is_test(&self) -> bool {
        let inside = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let folders = ["tests/", "benches/", "examples/"];
        inside || folders.iter().any(|folder| self.path.starts_with(folder))
    }

    /// Modules between the file and its crate's root: 0 for the root, 1 for `foo.rs` and `foo/mod.rs`.
    pub(crate) fn depth(&self) -> usize {
        let steps = self
            .path
            .trim_end_matches(".rs")
            .trim_end_matches("/mod")
            .split('/')
            .skip(1);
        steps
            .filter(|step| !["lib", "main", "bin"].contains(step))
            .count()
    }

    /// The top module that the file belongs to; none for the root.
    pub(crate) fn module(&self) -> Option<&str> {
        let first = self
            .path
            .strip_prefix("src/")?
            .split('/')
            .next()?
            .trim_end_matches(".rs");
        Some(first).filter(|name| !["lib", "main", "bin"].contains(name))
    }

    /// Every path the file names: each leaf of its `use` trees, and paths in code that begin at a crate or above.
    pub(crate) fn paths(&self) -> Vec<String> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let begins_path =
                tokens.get(at + 1) == Some(&"::") && (at == 0 || tokens[at - 1] != "::");
            let rooted = at > 0 && tokens[at - 1] == "::" && (at < 2 || !is_name(tokens[at - 2]));
            if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
                at += 1;
                use_tree(&tokens, &mut at, "", &mut paths);
            } else if is_name(tokens[at])
                && (begins_path || (rooted && tokens.get(at + 1) == Some(&"::")))
            {
                let mut path = tokens[at].to_owned();
                while tokens.get(at + 1) == Some(&"::")
                    && tokens.get(at + 2).is_some_and(|next| is_name(next))
                {
                    path = format!("{path}::{}", tokens[at + 2]);
                    at += 2;
                }
                at += 1;
                // A macro of this crate lives at its root by the language's rule.
                if tokens.get(at) != Some(&"!") {
                    paths.push(path);
                }
            } else {
                at += 1;
            }
        }
        paths
    }
}

/// Reads one branch of a `use` tree from `at` on, adding its leaves to `paths`.
fn use_tree(tokens: &[&str], at: &mut usize, prefix: &str, paths: &mut Vec<String>) {
    let mut path = prefix.to_owned();
    while let Some(token) = tokens.get(*at) {
        match *token {
            "{" => {
                *at += 1;
                while let Some(next) = tokens.get(*at).filter(|next| **next != "}") {
                    if *next == "," {
                        *at += 1;
                    } else {
                        use_tree(tokens, at, &path, paths);
                    }
                }
                *at += 1;
                return;
            }
            "," | "}" | ";" => break,
            "as" => *at += 2,
            "::" => *at += 1,
            name => {
                path = if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}::{name}")
                };
                *at += 1;
            }
        }
    }
    paths.push(path);
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

fn declared_modules(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let pairs = tokens
        .windows(2)
        .filter(|pair| pair[0] == "mod" && is_name(pair[1]));
    pairs.map(|pair| pair[1].to_owned()).collect()
}

/// The code without comments and with literals emptied.
fn without_text(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest, code.chars().next_back()));
        if let Some(length) = skipped {
            code.push(' ');
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// The length of the comment that `rest` begins with.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    rest.strip_prefix("/*")?;
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// The length of the string or character literal that `rest` begins with; `before` is the character in front of it.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    let within_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let hashes = rest
        .strip_prefix('r')
        .map(|raw| raw.len() - raw.trim_start_matches('#').len());
    if let Some(hashes) =
        hashes.filter(|hashes| !within_name && rest[1 + hashes..].starts_with('"'))
    {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = hashes + 2;
        return Some(
            rest[body..]
                .find(&end)
                .map_or(rest.len(), |found| body + found + end.len()),
        );
    }
    let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    // A lifetime is no literal: 'a is not closed right behind its first character.
    let second = rest[1..].chars().next()?;
    if quote == '\'' && second != '\\' && !rest[1 + second.len_utf8()..].starts_with('\'') {
        return None;
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return Some(at + 1);
        }
        escaped = c == '\\' && !escaped;
    }
    Some(rest.len())
}

/// The code without items that are compiled for tests only.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let (mut kept, mut rest) = (String::with_capacity(code.len()), code);
    while let Some(found) = rest.find(MARK) {
        kept.push_str(&rest[..found]);
        rest = &rest[found + MARK.len()..];
        let mut depth = 0_usize;
        let end = rest.char_indices().find(|(_, c)| match c {
            '{' | '(' | '[' => {
                depth += 1;
                false
            }
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                depth == 0 && *c == '}'
            }
            ';' => depth == 0,
            _ => false,
        });
        rest = end.map_or("", |(at, _)| &rest[at + 1..]);
    }
    kept.push_str(rest);
    kept
}
