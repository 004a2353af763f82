//! Holds the code against the table of arrows: which room must never import which, and what pure files leave alone.
//!
//! It reads paths, not only `use` lines, so that a `crate::pool::count(…)` in the middle of a function counts too.
//! Comments, strings and test modules do not.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the pooler, and what each of them must never import. Every room has a row: whoever builds a new one
/// says here what it must not know.
const ROOMS: &[(&str, &[&str])] = &[
    ("ids", &["tokio", "tracing", "crate"]),
    ("pins", &["tokio", "tracing", "crate"]),
    ("endings", &["tokio", "tracing", "crate"]),
    ("balance", &["tokio", "tracing", "crate"]),
    (
        "statements",
        &["tokio", "crate::session", "crate::server", "crate::pool", "crate::relay", "crate::stream"],
    ),
    (
        "parameters",
        &["tokio", "crate::session", "crate::server", "crate::pool", "crate::relay", "crate::stream"],
    ),
    (
        "auth",
        &[
            "tokio",
            "tracing",
            "crate::stream",
            "crate::server",
            "crate::pool",
            "crate::relay",
            "crate::session",
            "crate::runtime",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    (
        "config",
        &[
            "tokio",
            "crate::stream",
            "crate::server",
            "crate::pool",
            "crate::relay",
            "crate::session",
            "crate::runtime",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    (
        "stream",
        &[
            "crate::server",
            "crate::pool",
            "crate::relay",
            "crate::session",
            "crate::runtime",
            "crate::mailbox",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    (
        "server",
        &[
            "crate::relay",
            "crate::session",
            "crate::pool",
            "crate::route",
            "crate::topology",
            "crate::runtime",
            "crate::mailbox",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    (
        "catalog",
        &[
            "crate::relay",
            "crate::session",
            "crate::pool",
            "crate::route",
            "crate::topology",
            "crate::runtime",
            "crate::mailbox",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    (
        "relay",
        &[
            "crate::session",
            "crate::pool",
            "crate::topology",
            "crate::config",
            "crate::runtime",
            "crate::mailbox",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    (
        "pool",
        &[
            "crate::session",
            "crate::route",
            "crate::notify",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    (
        "notify",
        &[
            "crate::session",
            "crate::relay",
            "crate::pool",
            "crate::route",
            "crate::runtime",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    ("route", &["crate::session", "crate::relay", "crate::worker", "crate::listener", "crate::process"]),
    (
        "topology",
        &[
            "crate::session",
            "crate::relay",
            "crate::route",
            "crate::worker",
            "crate::listener",
            "crate::process",
        ],
    ),
    ("runtime", &["crate::session", "crate::worker", "crate::listener", "crate::process"]),
    ("mailbox", &["crate::session", "crate::relay", "crate::worker", "crate::listener", "crate::process"]),
    (
        "listener",
        &[
            "crate::session",
            "crate::pool",
            "crate::relay",
            "crate::server",
            "crate::worker",
            "crate::process",
        ],
    ),
    ("stopwatch", &["tokio", "tracing", "crate"]),
    (
        "shapes",
        &[
            "tokio",
            "tracing",
            "crate::session",
            "crate::server",
            "crate::pool",
            "crate::relay",
            "crate::stream",
            "crate::runtime",
        ],
    ),
    ("report", &["tokio", "tracing", "crate::session", "crate::worker", "crate::listener", "crate::process"]),
    (
        "control",
        &[
            "crate::session",
            "crate::relay",
            "crate::server",
            "crate::worker",
            "crate::process",
            "crate::auth",
        ],
    ),
    ("session", &["crate::worker", "crate::listener", "crate::control", "crate::admin", "crate::process"]),
    ("worker", &["crate::process"]),
    ("process", &["crate::session", "crate::relay", "crate::server"]),
    (
        "scratch",
        &[
            "crate::session",
            "crate::pool",
            "crate::relay",
            "crate::server",
            "crate::process",
            "crate::config",
        ],
    ),
];

/// What the crate `hawser-wire` must never import.
const WIRE: &[&str] = &["tokio", "std::net", "std::os::unix::net", "std::time", "tracing", "metrics"];

/// Crates that `hawser-sql-router` may import.
const SQL_ROUTER: &[&str] = &["std", "core", "alloc", "sqlparser"];

/// What a pure file must never import: it decides, others act.
const PURE: &[&str] = &[
    "tokio",
    "tracing",
    "std::fs",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os::unix::net",
];

/// Clocks that a pure file must not read: time is an argument.
const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now"];

/// Pure files that read a clock all the same, and why they may.
const CLOCK_EXCEPTIONS: &[(&str, &str)] = &[(
    "pool/budget.rs",
    "once, for the zero from which it counts microseconds; all later times are arguments",
)];

/// A path in the code, such as `std::time::Instant`, with the number of its line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    line: usize,
    path: String,
    /// It stands in a `use`.
    used: bool,
}

/// One source file.
struct Source {
    /// Below `src`.
    name: PathBuf,
    text: String,
}

impl Source {
    /// The module that the file is, as names from the root of its crate.
    fn module(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.name.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if names.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
            names.pop();
        }
        names
    }

    /// A room's tests may reach further than the room.
    fn is_test(&self) -> bool {
        self.name.file_stem().is_some_and(|stem| {
            let stem = stem.to_string_lossy();
            stem == "tests" || stem.ends_with("_tests")
        })
    }

    /// Says of itself that it is pure.
    fn is_pure(&self) -> bool {
        let head = self.text.lines().take_while(|line| line.starts_with("//!"));
        head.flat_map(|line| line.split_whitespace()).any(|word| matches!(word, "Pure." | "Pure:"))
    }

    /// Every path in the code; those that begin with `super`, `self` or a module of this file's own count from the
    /// root of the crate.
    fn paths(&self) -> Vec<Named> {
        let module = self.module();
        let tokens = tokens(&without_tests(&bare(&self.text)));
        let children = children(&tokens);
        let mut paths = paths(&tokens);
        for named in &mut paths {
            named.path = from_root(&named.path, &module, &children);
        }
        paths
    }
}

fn sources(folder: &str) -> Result<Vec<Source>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source {
                    name: path.strip_prefix(&root)?.to_owned(),
                    text: fs::read_to_string(&path)?,
                });
            }
        }
    }
    ensure!(!found.is_empty(), "no sources in {}", root.display());
    found.retain(|source| !source.is_test());
    Ok(found)
}

/// The code with blanks for comments, strings and characters; lines stay where they are.
fn bare(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |place: usize| chars.get(place).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut place = 0;
    while place < chars.len() {
        let end = match (at(place), at(place + 1)) {
            ('/', '/') => (place..chars.len()).find(|&end| at(end) == '\n').unwrap_or(chars.len()),
            ('/', '*') => end_of_comment(&chars, place),
            ('r', '"' | '#') if !out.ends_with(is_word) => end_of_raw_string(&chars, place),
            ('"', _) => end_of_quoted(&chars, place, '"'),
            ('\'', '\\') => end_of_quoted(&chars, place, '\''),
            ('\'', _) if at(place + 2) == '\'' => place + 3,
            _ => place,
        };
        if end == place {
            out.push(at(place));
            place += 1;
        } else {
            let blanks = chars.get(place..end.min(chars.len())).unwrap_or_default();
            out.extend(blanks.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            place = end;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Block comments nest.
fn end_of_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut place = start;
    while place < chars.len() {
        match (chars.get(place), chars.get(place + 1)) {
            (Some('/'), Some('*')) => (depth, place) = (depth + 1, place + 2),
            (Some('*'), Some('/')) => (depth, place) = (depth - 1, place + 2),
            _ => place += 1,
        }
        if depth == 0 {
            break;
        }
    }
    place
}

fn end_of_quoted(chars: &[char], start: usize, quote: char) -> usize {
    let mut place = start + 1;
    while let Some(&c) = chars.get(place) {
        if c == quote {
            return place + 1;
        }
        place += if c == '\\' { 2 } else { 1 };
    }
    place
}

/// `r"…"`, `r#"…"#`; where `start` is `r#word`, the word stays.
fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let rest = chars.get(start + 1..).unwrap_or_default();
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return start;
    }
    let body = start + hashes + 2;
    let closes = |place: &usize| {
        let after = chars.get(place + 1..).unwrap_or_default();
        chars.get(*place) == Some(&'"') && after.iter().take_while(|c| **c == '#').count() >= hashes
    };
    (body..chars.len()).find(closes).map_or(chars.len(), |place| place + 1 + hashes)
}

/// Blanks out what stands in braces behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        let (before, marked) = rest.split_at(start);
        out.push_str(before);
        let mut depth = 0;
        let end = marked.char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            ((c == '}' || c == ';') && depth == 0).then_some(at + 1)
        });
        let (left_out, after) = marked.split_at(end.unwrap_or(marked.len()));
        out.extend(left_out.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    out + rest
}

/// The modules that `mod name;` declares.
fn children(tokens: &[(usize, String)]) -> BTreeSet<String> {
    let declared = tokens.windows(3).filter_map(|three| match three {
        [(_, word), (_, name), (_, end)] if word == "mod" && end == ";" => Some(name.clone()),
        _ => None,
    });
    declared.collect()
}

/// All paths of two names and more, and all that are used.
fn paths(tokens: &[(usize, String)]) -> Vec<Named> {
    let text = |at: usize| tokens.get(at).map_or("", |(_, text)| text.as_str());
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at) {
        let used = token == "use";
        let start = if used { at + 1 } else { at };
        let begins = text(start).starts_with(is_word) && (used || text(start + 1) == "::");
        let leads = used && text(start) == "{";
        if !begins && !leads {
            at += 1;
            continue;
        }
        let mut branches = Vec::new();
        at = tree(tokens, start, "", &mut branches).max(at + 1);
        found.extend(branches.into_iter().map(|path| Named { line: *line, path, used }));
    }
    found
}

/// Words, `::`, and single characters, with their lines.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    let mut line = 1;
    let mut glued = false;
    for c in code.chars() {
        line += usize::from(c == '\n');
        if c.is_whitespace() {
            glued = false;
            continue;
        }
        match tokens.last_mut() {
            Some((_, last)) if glued && is_word(c) && last.ends_with(is_word) => last.push(c),
            Some((_, last)) if glued && c == ':' && last == ":" => last.push(c),
            _ => tokens.push((line, c.to_string())),
        }
        glued = true;
    }
    tokens
}

/// Reads one path or tree of paths that begins at `at`; tells where it ends.
fn tree(tokens: &[(usize, String)], mut at: usize, prefix: &str, out: &mut Vec<String>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |(_, text)| text.as_str());
    let mut path = prefix.to_owned();
    loop {
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = tree(tokens, at, &path, out);
                while !matches!(text(at), "," | "}" | "") {
                    at += 1;
                }
                at += usize::from(text(at) == ",");
            }
            return at + 1;
        }
        if text(at).starts_with(is_word) || text(at) == "*" {
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(text(at));
            at += 1;
        }
        if text(at) != "::" {
            out.push(path);
            return at;
        }
        at += 1;
        if !(text(at).starts_with(is_word) || matches!(text(at), "{" | "*")) {
            out.push(path);
            return at;
        }
    }
}

/// `super::x`, `self::x` and `child::x` as `crate::…::x`.
fn from_root(path: &str, module: &[String], children: &BTreeSet<String>) -> String {
    let mut names: Vec<&str> = path.split("::").collect();
    let ups = names.iter().take_while(|name| **name == "super").count();
    let own = names.first() == Some(&"self");
    let child = names.first().is_some_and(|first| children.contains(*first));
    if ups == 0 && !own && !child {
        return path.to_owned();
    }
    names.drain(..if child { 0 } else { ups.max(1) });
    let kept = module.len().saturating_sub(ups);
    let here = module.iter().take(kept).map(String::as_str);
    std::iter::once("crate").chain(here).chain(names).collect::<Vec<_>>().join("::")
}

fn begins_with(path: &str, forbidden: &str) -> bool {
    path.strip_prefix(forbidden).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What `source` names of `forbidden`, in words. A room may name itself.
fn broken(source: &Source, forbidden: &[&str]) -> Vec<String> {
    let own = source.module().first().map(|room| format!("crate::{room}"));
    let is_own = |path: &str| own.as_ref().is_some_and(|own| begins_with(path, own));
    let paths = source.paths().into_iter().filter(|named| !is_own(&named.path));
    let breaks = paths.filter(|named| forbidden.iter().any(|forbidden| begins_with(&named.path, forbidden)));
    breaks.map(|named| format!("{}:{}: {}", source.name.display(), named.line, named.path)).collect()
}

#[test]
fn no_room_of_the_pooler_imports_what_it_must_not_know() -> Result<()> {
    let mut breaks = Vec::new();
    for source in sources("src")? {
        let module = source.module();
        let Some(room) = module.first() else { continue };
        let row = ROOMS.iter().find(|(name, _)| name == room);
        let (_, forbidden) = row.with_context(|| format!("room {room} has no row in the table of arrows"))?;
        breaks.extend(broken(&source, forbidden));
    }
    ensure!(breaks.is_empty(), "arrows that point the wrong way:\n{}", breaks.join("\n"));
    Ok(())
}

#[test]
fn every_row_of_the_table_is_a_room() -> Result<()> {
    let rooms: BTreeSet<String> =
        sources("src")?.iter().filter_map(|source| source.module().first().cloned()).collect();
    for (room, _) in ROOMS {
        ensure!(rooms.contains(*room), "the table of arrows names {room}, which is not there");
    }
    Ok(())
}

#[test]
fn the_protocol_knows_no_socket_no_clock_and_no_log() -> Result<()> {
    let breaks: Vec<String> = sources("wire/src")?.iter().flat_map(|source| broken(source, WIRE)).collect();
    ensure!(breaks.is_empty(), "wire is data, but imports:\n{}", breaks.join("\n"));
    Ok(())
}

#[test]
fn the_classification_of_sql_knows_std_and_sqlparser_only() -> Result<()> {
    for source in sources("../sql-router/src")? {
        for named in source.paths().into_iter().filter(|named| named.used) {
            let first = named.path.split("::").next().unwrap_or_default();
            let allowed = SQL_ROUTER.contains(&first) || first == "crate";
            ensure!(allowed, "{}:{}: {}", source.name.display(), named.line, named.path);
        }
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql-router/Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest)?.parse()?;
    if let Some(dependencies) = manifest.get("dependencies").and_then(toml::Value::as_table) {
        for name in dependencies.keys() {
            ensure!(SQL_ROUTER.contains(&name.as_str()), "sql-router depends on {name}");
        }
    }
    Ok(())
}

#[test]
fn pure_files_touch_no_socket_no_file_no_clock_and_no_log_and_never_wait() -> Result<()> {
    let mut breaks = Vec::new();
    let mut pure = 0;
    for source in sources("src")?.into_iter().chain(sources("wire/src")?).filter(Source::is_pure) {
        pure += 1;
        breaks.extend(broken(&source, PURE));
        let name = source.name.to_string_lossy();
        let reads =
            source.paths().into_iter().filter(|named| CLOCKS.iter().any(|clock| named.path.ends_with(clock)));
        let reads: Vec<String> =
            reads.map(|named| format!("{name}:{}: {}", named.line, named.path)).collect();
        match CLOCK_EXCEPTIONS.iter().find(|(file, _)| *file == name) {
            Some((file, reason)) => {
                ensure!(reads.len() == 1, "{file} may read the clock {reason}, but: {reads:?}")
            }
            None => breaks.extend(reads),
        }
        if without_tests(&bare(&source.text)).contains(".await") {
            breaks.push(format!("{name}: .await"));
        }
    }
    ensure!(pure > 20, "only {pure} files say that they are pure");
    ensure!(breaks.is_empty(), "files that say they are pure, and are not:\n{}", breaks.join("\n"));
    Ok(())
}

fn scrap(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

#[test]
fn an_arrow_is_found_however_it_is_written() {
    for text in [
        "use crate::pool::Pool;",
        "use crate::{ids, pool::{self, lease}};",
        "use super::super::pool;",
        "use {crate::pool::Pool, std::io};",
        "fn f() { crate::pool::count(1); }",
        "fn f<'a>(c: char) -> bool { c == '\"' || crate::pool::is('{') }",
        "#[cfg(test)] mod tests { fn g() {} } use crate::pool;",
    ] {
        assert_ne!(broken(&scrap("relay/plan.rs", text), &["crate::pool"]), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_is_not_code_of_the_room_is_no_arrow() {
    for text in [
        "// use crate::pool::Pool;",
        "/* /* nested */ crate::pool */",
        "const A: &str = \"crate::pool::Pool\";",
        "const A: &str = r#\"\" crate::pool::x \"#;",
        "use crate::pools::Pools;",
        "use super::pool;",
        "#[cfg(test)]\nmod tests { use crate::pool::Pool; const A: char = '}'; }",
    ] {
        assert_eq!(broken(&scrap("relay/plan.rs", text), &["crate::pool"]), Vec::<String>::new(), "{text}");
    }
    let child = broken(&scrap("relay.rs", "mod tokio; use tokio::Sleep;"), &["tokio"]);
    assert_eq!(child, Vec::<String>::new(), "a module of its own is not the crate of that name");
    let child = scrap("relay.rs", "mod plan; use plan::of;").paths();
    assert!(child.iter().any(|named| named.path == "crate::relay::plan::of"), "{child:?}");
}
