//! Where the timelines ended from which the primary's comes. Pure.
//!
//! The server's own history file says it exactly, to users that may open a replication connection. For others there is
//! what the probes saw: a host that had replayed up to somewhere before it was promoted has at least that.

use super::lsn::Lsn;

/// Where a timeline ended, in the history of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// Here: what was written behind this is not in the history.
    At(Lsn),
    /// Here or later.
    AtLeast(Lsn),
    /// Before it began: nothing of it is in the history.
    Never,
    /// Nobody knows.
    Unknown,
}

/// What is known of a primary's past.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ancestry {
    /// Its timeline; 0 before there is a primary.
    pub timeline: u32,
    /// Up to where it had replayed which timeline before it was promoted.
    pub replayed: Option<(u32, Lsn)>,
    /// The timelines before its own and where each ended, once the server was asked.
    pub history: History,
}

/// What the server's history file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum History {
    /// The server is being asked.
    #[default]
    Asked,
    /// It does not say.
    Hidden,
    /// It says this.
    Known(Vec<(u32, Lsn)>),
}

impl Ancestry {
    /// Where `timeline` ended, in the history of `primary`.
    #[must_use]
    pub fn fork(&self, timeline: u32, primary: u32) -> Fork {
        if self.timeline != primary {
            return Fork::Unknown;
        }
        if let History::Known(known) = &self.history {
            let ended = known.iter().find(|(known, _)| *known == timeline);
            return ended.map_or(Fork::Never, |(_, at)| Fork::At(*at));
        }
        match self.replayed {
            Some((known, at)) if known == timeline => Fork::AtLeast(at),
            _ => Fork::Unknown,
        }
    }

    /// More may be known of the history of `primary` soon.
    #[must_use]
    pub fn may_grow(&self, primary: u32) -> bool {
        self.timeline < primary || (self.timeline == primary && self.history == History::Asked)
    }
}

/// Reads a history file: a line for each timeline, with its number and where it ended; `None` if it is none.
#[must_use]
pub fn read_history(text: &str) -> Option<Vec<(u32, Lsn)>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut columns = line.split_ascii_whitespace();
            Some((columns.next()?.parse().ok()?, Lsn::parse(columns.next()?)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "1\t0/3000148\tno recovery target specified\n\n2\t0/50000A0\tno recovery target specified\n";

    #[test]
    fn a_history_file_says_where_timelines_ended() {
        let history = History::Known(read_history(FILE).unwrap());
        let ancestry = Ancestry { timeline: 3, replayed: Some((2, Lsn(1))), history };
        assert_eq!(ancestry.fork(1, 3), Fork::At(Lsn(0x300_0148)));
        assert_eq!(ancestry.fork(2, 3), Fork::At(Lsn(0x500_00a0)));
        assert_eq!(ancestry.fork(2, 4), Fork::Unknown);
        assert!(!ancestry.may_grow(3) && ancestry.may_grow(4));
    }

    #[test]
    fn a_timeline_that_is_no_ancestor_never_was() {
        let history = History::Known(read_history("1\t0/3000148\tx").unwrap());
        let ancestry = Ancestry { timeline: 3, replayed: None, history };
        assert_eq!(ancestry.fork(2, 3), Fork::Never);
    }

    #[test]
    fn what_was_replayed_bounds_the_fork_where_the_history_is_hidden() {
        let ancestry = Ancestry { timeline: 2, replayed: Some((1, Lsn(7))), history: History::Hidden };
        assert_eq!((ancestry.fork(1, 2), ancestry.may_grow(2)), (Fork::AtLeast(Lsn(7)), false));
        let nothing = Ancestry { timeline: 3, replayed: Some((2, Lsn(7))), history: History::Asked };
        assert_eq!((nothing.fork(1, 3), nothing.may_grow(3)), (Fork::Unknown, true));
    }

    #[test]
    fn what_is_no_history_is_none() {
        assert_eq!(read_history("1 nowhere"), None);
        assert_eq!(read_history("one\t0/1"), None);
        assert_eq!(read_history(""), Some(vec![]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_history_or_none(text: String) {
            let _ = read_history(&text);
        }
    }
}
