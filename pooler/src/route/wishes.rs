//! What a session asks for: settings of its own (`SET hawser.route = 'primary'`), or else those of its user, its
//! database, or of all. Pure.

use crate::config::settings::{Consistency, Route, RoutingSettings};
use crate::parameters::ParameterSet;
use crate::topology::Lsn;
use hawser_sql_router::knowledge::SearchPath;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Wishes {
    /// Where statements run.
    pub route: Route,
    /// What reads must see.
    pub consistency: Consistency,
    /// Reads must see everything up to here.
    pub min_lsn: Option<Lsn>,
    /// Transactions are READ ONLY unless they say otherwise.
    pub read_only: bool,
    /// Transactions are SERIALIZABLE unless they say otherwise, which no standby allows.
    pub serializable: bool,
    /// Transactions are READ COMMITTED unless they say otherwise, as far as the session has said.
    pub is_read_committed: bool,
    /// Where names without a schema are looked up.
    pub path: SearchPath,
}

impl Wishes {
    /// What `parameters` say, beside what the settings say.
    #[must_use]
    pub fn of(parameters: &ParameterSet, settings: &RoutingSettings, user: &str) -> Self {
        let says = |name: &str, words: &[&str]| {
            parameters
                .value(name)
                .is_some_and(|value| words.iter().any(|word| value.eq_ignore_ascii_case(word)))
        };
        let route = parameters.value("hawser.route").and_then(Route::from_word);
        let consistency = parameters.value("hawser.consistency").and_then(Consistency::from_word);
        Self {
            route: route.unwrap_or(settings.route),
            consistency: consistency.unwrap_or(settings.consistency),
            min_lsn: parameters.value("hawser.min_lsn").and_then(Lsn::parse),
            read_only: says("default_transaction_read_only", &["on", "true", "yes", "1"]),
            serializable: says("default_transaction_isolation", &["serializable"]),
            is_read_committed: parameters.value("default_transaction_isolation").is_none()
                || says("default_transaction_isolation", &["read committed"]),
            path: match parameters.value("search_path") {
                Some(path) => SearchPath::parse(path, current_user(parameters, user)),
                None => SearchPath::unknown(),
            },
        }
    }
}

/// Whose schema `"$user"` is.
fn current_user<'a>(parameters: &'a ParameterSet, user: &'a str) -> &'a str {
    let role = parameters.value("role").filter(|role| *role != "none");
    role.or_else(|| parameters.value("session_authorization")).unwrap_or(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(pairs: &[(&str, &str)]) -> Wishes {
        let parameters = ParameterSet::from_pairs(pairs.iter().copied());
        Wishes::of(&parameters, &RoutingSettings::default(), "me")
    }

    #[test]
    fn the_session_has_the_last_word() {
        let asked = wishes(&[("hawser.route", "PRIMARY"), ("hawser.consistency", "eventual")]);
        assert_eq!((asked.route, asked.consistency), (Route::Primary, Consistency::Eventual));
        assert_eq!(wishes(&[]).route, RoutingSettings::default().route);
        assert_eq!(wishes(&[("hawser.consistency", "none")]).consistency, Consistency::Session);
    }

    #[test]
    fn names_are_looked_up_where_the_current_role_looks() {
        let path = |pairs: &[(&str, &str)]| wishes(pairs).path;
        let setting = ("search_path", "\"$user\"");
        assert_eq!(path(&[setting]), SearchPath::parse("me", "me"));
        assert_eq!(path(&[setting, ("role", "you")]), SearchPath::parse("you", "me"));
        assert_eq!(path(&[setting, ("role", "none")]), SearchPath::parse("me", "me"));
        assert_eq!(path(&[setting, ("session_authorization", "her")]), SearchPath::parse("her", "me"));
    }

    #[test]
    fn a_position_that_cannot_be_read_is_none() {
        assert!(wishes(&[("hawser.min_lsn", "0/1000028")]).min_lsn.is_some());
        assert!(wishes(&[("hawser.min_lsn", "soon")]).min_lsn.is_none());
    }
}
