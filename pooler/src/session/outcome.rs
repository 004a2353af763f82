//! Whether a commit that was never answered has happened, from what the lost server said of its transaction before and
//! what the primary says now. Pure.
//!
//! A number alone proves nothing: what the new primary never saw it gives out anew. So "committed" counts only if the
//! log of the new primary has everything that came before the COMMIT, the transaction's own records among it. That is
//! so if the old timeline ended (the fork) behind the position at which the transaction was asked for its number. Where
//! the same server was restarted, the checkpoint with which it began tells which numbers it knew.

use crate::server::identity::Row;
use crate::topology::{Fork, Lsn};

/// How the commit went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What was done stays.
    Committed,
    /// What was done is undone.
    Aborted,
    /// Nobody can tell.
    Unknown,
}

/// What is concluded from one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is over.
    Is(Outcome),
    /// Not yet.
    AskAgain,
    /// It is committed, if the number is still the same transaction's: that depends on where the timeline ended.
    NeedsFork,
}

/// What the lost server said of the transaction, before its COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Its number; none: it has changed nothing.
    pub id: Option<u64>,
    /// Everything that it had done is in the log before this, and its COMMIT is not.
    pub position: Lsn,
    /// The timeline.
    pub timeline: u32,
    /// Where the last checkpoint was.
    pub checkpoint: Lsn,
    /// Which cluster.
    pub system_id: u64,
    /// It can fail to commit although it has changed nothing.
    pub serializable: bool,
}

/// What the primary says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The timeline.
    pub timeline: u32,
    /// Which cluster.
    pub system_id: u64,
    /// Where the last checkpoint is.
    pub checkpoint: Lsn,
    /// Where recovery from that checkpoint would begin: at itself, if nothing ran meanwhile.
    pub redo: Lsn,
    /// The next number to be given out at that checkpoint.
    pub next_id: u64,
    /// What became of the number.
    pub status: Status,
}

/// What became of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Its transaction is committed.
    Committed,
    /// Its transaction is undone.
    Aborted,
    /// Its transaction runs.
    InProgress,
    /// No transaction with it, or a later one, has ended yet.
    Ahead,
    /// It is too long ago.
    Forgotten,
}

impl Lost {
    /// Reads the answer to [`crate::server::identity::QUESTION`].
    pub(super) fn read(row: &Row) -> Option<Self> {
        let [id, position, timeline, checkpoint, system_id, isolation] = row.as_slice() else { return None };
        Some(Self {
            id: match id {
                Some(id) => Some(id.parse().ok()?),
                None => None,
            },
            position: Lsn::parse(position.as_deref()?)?,
            timeline: u32::from_str_radix(timeline.as_deref()?, 16).ok()?,
            checkpoint: Lsn::parse(checkpoint.as_deref()?)?,
            system_id: system_id.as_deref()?.parse().ok()?,
            serializable: isolation.as_deref()? == "serializable",
        })
    }
}

/// What the primary is asked about a number.
pub(super) fn question(id: u64) -> String {
    format!(
        "SELECT pg_catalog.\"left\"(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8), \
         (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s)::text, \
         c.checkpoint_lsn::text, c.redo_lsn::text, c.next_xid, \
         CASE WHEN '{id}'::pg_catalog.xid8 OPERATOR(pg_catalog.<) \
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) \
         THEN pg_catalog.pg_xact_status('{id}'::pg_catalog.xid8) ELSE 'ahead' END \
         FROM pg_catalog.pg_control_checkpoint() c"
    )
}

impl Found {
    /// Reads the answer to [`question`].
    pub(super) fn read(rows: &[Row]) -> Option<Self> {
        let [row] = rows else { return None };
        let [timeline, system_id, checkpoint, redo, next, status] = row.as_slice() else { return None };
        let (epoch, next) = next.as_deref()?.split_once(':')?;
        Some(Self {
            timeline: u32::from_str_radix(timeline.as_deref()?, 16).ok()?,
            system_id: system_id.as_deref()?.parse().ok()?,
            checkpoint: Lsn::parse(checkpoint.as_deref()?)?,
            redo: Lsn::parse(redo.as_deref()?)?,
            next_id: u64::from(epoch.parse::<u32>().ok()?) << 32 | u64::from(next.parse::<u32>().ok()?),
            status: match status.as_deref() {
                Some("committed") => Status::Committed,
                Some("aborted") => Status::Aborted,
                Some("in progress") => Status::InProgress,
                Some("ahead") => Status::Ahead,
                Some(_) => return None,
                None => Status::Forgotten,
            },
        })
    }
}

/// What is known without asking anybody.
pub(super) const fn without_asking(lost: &Lost) -> Option<Outcome> {
    match (lost.id, lost.serializable) {
        (Some(_), _) => None,
        // Nothing is there that could be lost.
        (None, false) => Some(Outcome::Committed),
        (None, true) => Some(Outcome::Aborted),
    }
}

/// Concludes. `fork` is where the lost server's timeline ended, for the history of the primary.
pub(super) fn verdict(lost: &Lost, found: &Found, fork: Fork) -> Verdict {
    let Some(id) = lost.id else { return Verdict::Is(Outcome::Unknown) };
    if found.system_id != lost.system_id || found.timeline < lost.timeline {
        return Verdict::Is(Outcome::Unknown);
    }
    if found.timeline > lost.timeline { elsewhere(lost, found, fork) } else { at_home(id, lost, found) }
}

/// The primary is on a timeline of its own. Nothing runs there that ran on the lost one.
fn elsewhere(lost: &Lost, found: &Found, fork: Fork) -> Verdict {
    let committed = match (found.status, fork) {
        // If it is another transaction's number by now, then ours never came here.
        (Status::Aborted | Status::InProgress | Status::Ahead, _) => false,
        (Status::Forgotten, _) => return Verdict::Is(Outcome::Unknown),
        (Status::Committed, Fork::At(at)) => at > lost.position,
        (Status::Committed, Fork::AtLeast(at)) if at > lost.position => true,
        (Status::Committed, Fork::Never) => false,
        (Status::Committed, Fork::AtLeast(_) | Fork::Unknown) => return Verdict::NeedsFork,
    };
    Verdict::Is(if committed { Outcome::Committed } else { Outcome::Aborted })
}

/// The primary is on the timeline of the lost server: most likely it is that server.
fn at_home(id: u64, lost: &Lost, found: &Found) -> Verdict {
    let never_stopped = found.checkpoint == lost.checkpoint;
    // A server that starts begins with a checkpoint during which nothing else runs.
    let knew = found.redo == found.checkpoint && id < found.next_id;
    let knew_not = found.redo == found.checkpoint && id >= found.next_id && !never_stopped;
    match found.status {
        _ if knew_not => Verdict::Is(Outcome::Aborted),
        Status::Committed if never_stopped || knew => Verdict::Is(Outcome::Committed),
        Status::Aborted => Verdict::Is(Outcome::Aborted),
        Status::InProgress | Status::Ahead => Verdict::AskAgain,
        Status::Committed | Status::Forgotten => Verdict::Is(Outcome::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u64 = 700;

    fn lost() -> Lost {
        Lost {
            id: Some(ID),
            position: Lsn(1000),
            timeline: 1,
            checkpoint: Lsn(100),
            system_id: 7,
            serializable: false,
        }
    }

    fn found(timeline: u32, status: Status) -> Found {
        Found { timeline, system_id: 7, checkpoint: Lsn(100), redo: Lsn(90), next_id: ID - 10, status }
    }

    fn promoted(status: Status, fork: Fork) -> Verdict {
        verdict(&lost(), &found(2, status), fork)
    }

    const COMMITTED: Verdict = Verdict::Is(Outcome::Committed);
    const ABORTED: Verdict = Verdict::Is(Outcome::Aborted);
    const UNKNOWN: Verdict = Verdict::Is(Outcome::Unknown);

    #[test]
    fn a_commit_counts_only_if_the_new_primary_has_what_came_before_it() {
        assert_eq!(promoted(Status::Committed, Fork::At(Lsn(1001))), COMMITTED);
        assert_eq!(promoted(Status::Committed, Fork::AtLeast(Lsn(1001))), COMMITTED);
        // The number is another transaction's by now.
        assert_eq!(promoted(Status::Committed, Fork::At(Lsn(1000))), ABORTED);
        assert_eq!(promoted(Status::Committed, Fork::Never), ABORTED);
        for fork in [Fork::AtLeast(Lsn(1000)), Fork::Unknown] {
            assert_eq!(promoted(Status::Committed, fork), Verdict::NeedsFork);
        }
    }

    #[test]
    fn what_a_new_primary_does_not_call_committed_is_undone_there() {
        for status in [Status::Aborted, Status::InProgress, Status::Ahead] {
            assert_eq!(promoted(status, Fork::Unknown), ABORTED);
        }
        assert_eq!(promoted(Status::Forgotten, Fork::At(Lsn(2000))), UNKNOWN);
    }

    #[test]
    fn a_server_that_never_stopped_knows_its_transactions() {
        assert_eq!(verdict(&lost(), &found(1, Status::Committed), Fork::Unknown), COMMITTED);
        assert_eq!(verdict(&lost(), &found(1, Status::Aborted), Fork::Unknown), ABORTED);
        for status in [Status::InProgress, Status::Ahead] {
            assert_eq!(verdict(&lost(), &found(1, status), Fork::Unknown), Verdict::AskAgain);
        }
    }

    #[test]
    fn a_server_that_was_restarted_knows_what_its_log_had() {
        let restarted = |next_id, status| {
            let at = Lsn(1100);
            let found = Found { checkpoint: at, redo: at, next_id, ..found(1, status) };
            verdict(&lost(), &found, Fork::Unknown)
        };
        assert_eq!(restarted(ID + 1, Status::Committed), COMMITTED);
        assert_eq!(restarted(ID + 1, Status::Aborted), ABORTED);
        for status in [Status::Committed, Status::Aborted, Status::InProgress, Status::Ahead] {
            assert_eq!(restarted(ID, status), ABORTED);
        }
        // A checkpoint while others ran says nothing of what came before it.
        let found = Found { checkpoint: Lsn(1100), ..found(1, Status::Committed) };
        assert_eq!(verdict(&lost(), &found, Fork::Unknown), UNKNOWN);
    }

    #[test]
    fn another_cluster_or_an_older_timeline_knows_nothing() {
        let other = Found { system_id: 8, ..found(2, Status::Committed) };
        assert_eq!(verdict(&lost(), &other, Fork::At(Lsn(2000))), UNKNOWN);
        let older = Lost { timeline: 3, ..lost() };
        assert_eq!(verdict(&older, &found(2, Status::Aborted), Fork::Unknown), UNKNOWN);
    }

    #[test]
    fn what_has_changed_nothing_has_nothing_to_lose() {
        let nothing = Lost { id: None, ..lost() };
        assert_eq!(without_asking(&nothing), Some(Outcome::Committed));
        assert_eq!(without_asking(&Lost { serializable: true, ..nothing }), Some(Outcome::Aborted));
        assert_eq!(without_asking(&lost()), None);
    }

    fn row(columns: &[&str]) -> Row {
        columns.iter().map(|text| (*text != "-").then(|| (*text).to_owned())).collect()
    }

    #[test]
    fn answers_are_read() {
        let read = Lost::read(&row(&["700", "0/3E8", "00000001", "0/64", "7", "read committed"]));
        assert_eq!(read, Some(lost()));
        let nothing = Lost::read(&row(&["-", "0/3E8", "00000001", "0/64", "7", "serializable"])).unwrap();
        assert_eq!((nothing.id, nothing.serializable), (None, true));
        let read = Found::read(&[row(&["00000002", "7", "0/64", "0/5A", "0:690", "committed"])]);
        assert_eq!(read, Some(found(2, Status::Committed)));
        let forgotten = Found::read(&[row(&["00000002", "7", "0/64", "0/5A", "1:5", "-"])]).unwrap();
        assert_eq!((forgotten.status, forgotten.next_id), (Status::Forgotten, (1 << 32) + 5));
        assert_eq!(Found::read(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_says_is_an_answer_or_none(
            columns in proptest::collection::vec(proptest::option::of("[ -~]{0,24}"), 0..8),
        ) {
            let _ = (Lost::read(&columns), Found::read(&[columns]));
        }
    }
}
