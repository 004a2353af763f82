//! Pure. The operator's surface: who may use the console, and HTTP.

use super::super::settings::{AdminSettings, HttpSettings, StatsSettings, Token};
use super::Files;
use super::reader::Reader;
use zeroize::Zeroizing;

/// Reads `[admin]`.
pub(super) fn admin(reader: &mut Reader<'_>) -> AdminSettings {
    let mut names = |name| reader.list(name).into_iter().map(|(user, _)| user).collect();
    AdminSettings { users: names("admin.users"), stats_users: names("admin.stats_users") }
}

/// Reads `[stats]`.
pub(super) fn stats(reader: &mut Reader<'_>) -> StatsSettings {
    StatsSettings { fingerprints: reader.count("stats.fingerprints") }
}

/// Reads `[http]`. Whoever can be reached from other hosts has a token.
pub(super) fn http(reader: &mut Reader<'_>, files: &Files) -> HttpSettings {
    let written = reader.is_written("http.address");
    let text = reader.text("http.address");
    let address = match text.trim() {
        "" | "off" => None,
        text => {
            let found = super::addresses(text).and_then(|found| found.first().copied());
            if found.is_none() {
                let what = format!("{text:?} is not an IP address and a port");
                reader.problem("http.address", &what, "write \"127.0.0.1:6433\", \"*:6433\" or \"off\"");
            }
            found
        }
    };
    let token = token(reader, files);
    if let Some(public) = address.filter(|address| !address.ip().is_loopback())
        && token.is_none()
    {
        let what = format!("{public} can be reached from other hosts");
        reader.problem("http.address", &what, "set http.token or http.token_file");
    }
    HttpSettings { address, is_preset: !written, token }
}

fn token(reader: &mut Reader<'_>, files: &Files) -> Option<Token> {
    if reader.is_written("http.token") && reader.is_written("http.token_file") {
        reader.problem("http.token_file", "stands beside http.token", "write one of them");
    }
    let written = reader.optional_text("http.token");
    let in_file = match reader.path("http.token_file").and_then(|path| Some((files.get(&path)?, path))) {
        Some((Ok(text), _)) => Some(text.trim().to_owned()),
        Some((Err(why), path)) => {
            reader.problem("http.token_file", &format!("{} cannot be read: {why}", path.display()), "");
            None
        }
        None => None,
    };
    let (name, token) =
        written.map(|text| ("http.token", text)).or(in_file.map(|text| ("http.token_file", text)))?;
    if token.is_empty() {
        reader.problem(name, "is empty", "");
        return None;
    }
    Some(Token(Zeroizing::new(token)))
}
