//! What one session listens on, with PostgreSQL's rules for transactions. Pure.
//!
//! LISTEN and UNLISTEN take effect when their transaction commits, in order, and ROLLBACK TO SAVEPOINT forgets what
//! came after the savepoint. Apart from that there is what the hub *holds* for the session: a channel is asked of
//! the hub before LISTEN is sent to the server, so that nothing is missed between the commit and the hub, and is let
//! go when no transaction is under way that could make it count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What LISTEN or UNLISTEN do when their transaction commits.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Listen(Arc<str>),
    Unlisten(Arc<str>),
    UnlistenAll,
}

/// Where a channel that the hub was asked for stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Asked, with the number of the question.
    Asked(u32),
    /// The server has confirmed it to the listening connection.
    Confirmed,
    /// The hub cannot have it now.
    Refused,
}

/// Whether LISTEN may be sent to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The hub has the channel, or cannot have it.
    Ready,
    /// The hub was asked.
    Waiting,
    /// Ask the hub for this channel, with the number that was given.
    Ask(Arc<str>),
}

/// What becomes of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The client listens on its channel.
    Due,
    /// The client may have said so in a transaction that is not known to be committed yet.
    Early,
    /// The client does not listen.
    Unwanted,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// As of the last commit.
    active: BTreeSet<Arc<str>>,
    /// Of the transaction that is under way.
    actions: Vec<Action>,
    /// Names, and how many actions there were.
    savepoints: Vec<(String, usize)>,
    holds: HashMap<Arc<str>, Hold>,
    asked: BTreeMap<u32, Arc<str>>,
    /// Something may be held that nobody needs.
    untidy: bool,
}

impl Subscriptions {
    /// The client is about to LISTEN on `channel`; `number` is for the question to the hub, if there must be one.
    pub fn want(&mut self, channel: &str, number: u32) -> Readiness {
        match self.holds.get(channel) {
            Some(Hold::Confirmed | Hold::Refused) => Readiness::Ready,
            Some(Hold::Asked(_)) => Readiness::Waiting,
            None => {
                let channel: Arc<str> = channel.into();
                self.holds.insert(channel.clone(), Hold::Asked(number));
                self.asked.insert(number, channel.clone());
                self.untidy = true;
                Readiness::Ask(channel)
            }
        }
    }

    /// The hub has answered the question with this number. A channel that it cannot have is returned: the hub need
    /// not keep it in mind. One that the client relies on already is had as soon as the hub can.
    pub fn answer(&mut self, number: u32, confirmed: bool) -> Option<Arc<str>> {
        let channel = self.asked.remove(&number)?;
        let confirmed = confirmed || self.is_relied_on(&channel);
        let hold = self.holds.get_mut(&channel)?;
        if *hold != Hold::Asked(number) {
            return None;
        }
        *hold = if confirmed { Hold::Confirmed } else { Hold::Refused };
        (!confirmed).then_some(channel)
    }

    /// The hub has to be asked anew, elsewhere, for every channel that it holds; `number` numbers the questions.
    pub fn renew(&mut self, mut number: impl FnMut() -> u32) -> Vec<(Arc<str>, u32)> {
        self.asked.clear();
        for (channel, hold) in &mut self.holds {
            if *hold != Hold::Refused {
                let number = number();
                *hold = Hold::Asked(number);
                self.asked.insert(number, channel.clone());
            }
        }
        self.untidy = true;
        self.asked.iter().map(|(number, channel)| (channel.clone(), *number)).collect()
    }

    /// The client relies on a channel, or will when its transaction commits.
    fn is_relied_on(&self, channel: &Arc<str>) -> bool {
        self.active.contains(channel) || self.actions.contains(&Action::Listen(channel.clone()))
    }

    /// A question for a channel is open.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// LISTEN has succeeded. False when the hub has not got the channel: then only the server has it.
    pub fn listen(&mut self, channel: &str) -> bool {
        let Some((channel, Hold::Confirmed)) = self.holds.get_key_value(channel) else { return false };
        self.actions.push(Action::Listen(channel.clone()));
        true
    }

    /// UNLISTEN has succeeded.
    pub fn unlisten(&mut self, channel: &str) {
        self.actions.push(Action::Unlisten(channel.into()));
    }

    /// `UNLISTEN *` has succeeded.
    pub fn unlisten_all(&mut self) {
        self.actions.push(Action::UnlistenAll);
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.push((name.to_owned(), self.actions.len()));
    }

    /// RELEASE. A savepoint that is not known is older than all that are.
    pub fn release(&mut self, name: &str) {
        self.savepoints.truncate(self.position(name).unwrap_or(0));
    }

    /// ROLLBACK TO. A savepoint that is not known was made before the client first listened.
    pub fn roll_back_to(&mut self, name: &str) {
        let at = self.position(name);
        let kept = at.and_then(|at| self.savepoints.get(at)).map_or(0, |(_, actions)| *actions);
        self.savepoints.truncate(at.map_or(0, |at| at + 1));
        self.actions.truncate(kept);
        self.untidy = true;
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(known, _)| known == name)
    }

    /// The transaction was rolled back.
    pub fn roll_back(&mut self) {
        self.untidy |= !self.actions.is_empty();
        self.actions.clear();
        self.savepoints.clear();
    }

    /// The transaction was committed.
    pub fn commit(&mut self) {
        self.savepoints.clear();
        self.untidy |= !self.actions.is_empty();
        for action in self.actions.drain(..) {
            match action {
                Action::Listen(channel) => _ = self.active.insert(channel),
                Action::Unlisten(channel) => _ = self.active.remove(&channel),
                Action::UnlistenAll => self.active.clear(),
            }
        }
    }

    /// DISCARD ALL: nothing is listened on any more.
    pub fn clear(&mut self) {
        self.actions.clear();
        self.savepoints.clear();
        self.active.clear();
        self.untidy = true;
    }

    /// The client is between transactions and has nothing under way: channels that nobody needs are let go, and
    /// returned if the hub holds them.
    pub fn tidy(&mut self) -> Vec<Arc<str>> {
        if !std::mem::take(&mut self.untidy) {
            return Vec::new();
        }
        let mut left = Vec::new();
        let (active, asked) = (&self.active, &self.asked);
        self.holds.retain(|channel, hold| {
            let kept = active.contains(channel) || matches!(hold, Hold::Asked(_));
            if !kept && *hold == Hold::Confirmed {
                left.push(channel.clone());
            }
            kept
        });
        self.untidy = !asked.is_empty();
        left
    }

    /// LISTEN was said in the transaction that is under way, by a client that listened on nothing before. A server
    /// then leaves out what was committed before that transaction; to one that listens already it tells that too.
    #[must_use]
    pub fn is_beginning(&self) -> bool {
        self.active.is_empty() && self.actions.iter().any(|action| matches!(action, Action::Listen(_)))
    }

    /// The client listens on something.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        !self.active.is_empty()
    }

    /// The hub holds nothing for the session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// What becomes of a notification on `channel`.
    #[must_use]
    pub fn delivery(&self, channel: &str) -> Delivery {
        if self.active.contains(channel) {
            Delivery::Due
        } else if self.holds.get(channel) == Some(&Hold::Confirmed) {
            Delivery::Early
        } else {
            Delivery::Unwanted
        }
    }

    /// Every channel that the hub was asked for and has not refused.
    pub fn held(&self) -> impl Iterator<Item = &Arc<str>> {
        self.holds.iter().filter(|(_, hold)| **hold != Hold::Refused).map(|(channel, _)| channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Asks for a channel and has it confirmed.
    fn have(book: &mut Subscriptions, channel: &str) {
        if let Readiness::Ask(_) = book.want(channel, 1) {
            assert_eq!(book.answer(1, true), None);
        }
        assert_eq!(book.want(channel, 1), Readiness::Ready);
    }

    fn listen(book: &mut Subscriptions, channel: &str) {
        have(book, channel);
        assert!(book.listen(channel));
    }

    #[test]
    fn listen_counts_from_the_commit() {
        let mut book = Subscriptions::default();
        listen(&mut book, "a");
        assert_eq!(book.delivery("a"), Delivery::Early);
        book.commit();
        assert_eq!(book.delivery("a"), Delivery::Due);
        assert!(book.tidy().is_empty());
        book.unlisten("a");
        assert_eq!(book.delivery("a"), Delivery::Due);
        book.commit();
        assert_eq!(book.tidy(), [Arc::from("a")]);
        assert_eq!(book.delivery("a"), Delivery::Unwanted);
    }

    #[test]
    fn a_channel_that_the_hub_refuses_is_the_servers() {
        let mut book = Subscriptions::default();
        assert_eq!(book.want("a", 7), Readiness::Ask("a".into()));
        assert_eq!(book.want("a", 8), Readiness::Waiting);
        assert_eq!(book.answer(7, false), Some("a".into()));
        assert_eq!(book.want("a", 9), Readiness::Ready);
        assert!(!book.listen("a"));
        assert!(book.tidy().is_empty());
        // The hub is asked anew the next time.
        assert_eq!(book.want("a", 10), Readiness::Ask("a".into()));
    }

    #[test]
    fn what_the_client_relies_on_is_asked_for_again_and_kept() {
        let mut book = Subscriptions::default();
        listen(&mut book, "a");
        book.commit();
        listen(&mut book, "b");
        have(&mut book, "c");
        let mut number = 10;
        let mut asked = book.renew(|| {
            number += 1;
            number
        });
        asked.sort();
        let channels: Vec<&str> = asked.iter().map(|(channel, _)| &**channel).collect();
        assert_eq!(channels, ["a", "b", "c"]);
        let refused: Vec<_> = asked.iter().filter_map(|(_, number)| book.answer(*number, false)).collect();
        assert_eq!(refused, [Arc::from("c")]);
        assert_eq!((book.delivery("a"), book.delivery("b")), (Delivery::Due, Delivery::Early));
    }

    #[test]
    fn an_open_question_is_kept_when_a_transaction_ends() {
        let mut book = Subscriptions::default();
        book.want("a", 1);
        book.commit();
        assert!(book.tidy().is_empty());
        book.answer(1, true);
        assert_eq!(book.delivery("a"), Delivery::Early);
        assert_eq!(book.tidy(), [Arc::from("a")]);
    }

    #[test]
    fn a_savepoint_from_before_the_first_listen_takes_everything_back() {
        let mut book = Subscriptions::default();
        listen(&mut book, "a");
        book.savepoint("known");
        listen(&mut book, "b");
        book.roll_back_to("older");
        book.commit();
        assert_eq!(book.delivery("a"), Delivery::Early);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Listen(u8),
        Unlisten(u8),
        UnlistenAll,
        Savepoint(u8),
        Release(u8),
        RollBackTo(u8),
        RollBack,
        Commit,
        DiscardAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4u8).prop_map(Step::Listen),
            2 => (0..4u8).prop_map(Step::Unlisten),
            1 => Just(Step::UnlistenAll),
            2 => (0..3u8).prop_map(Step::Savepoint),
            1 => (0..3u8).prop_map(Step::Release),
            2 => (0..3u8).prop_map(Step::RollBackTo),
            1 => Just(Step::RollBack),
            2 => Just(Step::Commit),
            1 => Just(Step::DiscardAll),
        ]
    }

    /// A server that keeps whole copies: what would be listened on if this savepoint were committed.
    #[derive(Default)]
    struct Model {
        committed: BTreeSet<String>,
        now: BTreeSet<String>,
        savepoints: Vec<(String, BTreeSet<String>)>,
    }

    impl Model {
        fn find(&self, name: &str) -> Option<usize> {
            self.savepoints.iter().rposition(|(known, _)| known == name)
        }

        fn end(&mut self, kept: BTreeSet<String>) {
            self.committed = kept.clone();
            self.now = kept;
            self.savepoints.clear();
        }
    }

    fn apply(step: &Step, book: &mut Subscriptions, model: &mut Model) {
        match step {
            Step::Listen(n) => {
                listen(book, &n.to_string());
                model.now.insert(n.to_string());
            }
            Step::Unlisten(n) => {
                book.unlisten(&n.to_string());
                model.now.remove(&n.to_string());
            }
            Step::UnlistenAll => {
                book.unlisten_all();
                model.now.clear();
            }
            Step::Savepoint(n) => {
                book.savepoint(&n.to_string());
                model.savepoints.push((n.to_string(), model.now.clone()));
            }
            Step::Release(n) => {
                if let Some(at) = model.find(&n.to_string()) {
                    book.release(&n.to_string());
                    model.savepoints.truncate(at);
                }
            }
            Step::RollBackTo(n) => {
                if let Some(at) = model.find(&n.to_string()) {
                    book.roll_back_to(&n.to_string());
                    model.savepoints.truncate(at + 1);
                    model.now = model.savepoints[at].1.clone();
                }
            }
            Step::RollBack => {
                book.roll_back();
                let committed = model.committed.clone();
                model.end(committed);
            }
            Step::Commit => {
                book.commit();
                let now = model.now.clone();
                model.end(now);
            }
            Step::DiscardAll => {
                book.clear();
                model.end(BTreeSet::new());
            }
        }
    }

    proptest! {
        #[test]
        fn a_session_listens_on_what_a_server_would_say(steps in prop::collection::vec(step(), 0..60)) {
            let (mut book, mut model) = (Subscriptions::default(), Model::default());
            let mut with_hub: BTreeSet<String> = BTreeSet::new();
            for step in &steps {
                apply(step, &mut book, &mut model);
                with_hub = book.held().map(|channel| channel.to_string()).collect();
                let active: BTreeSet<String> = book.active.iter().map(|channel| channel.to_string()).collect();
                prop_assert_eq!(&active, &model.committed);
                // The hub has everything that counts or may count.
                prop_assert!(with_hub.is_superset(&model.committed));
                prop_assert!(with_hub.is_superset(&model.now));
                if matches!(step, Step::RollBack | Step::Commit | Step::DiscardAll) {
                    for left in book.tidy() {
                        prop_assert!(with_hub.remove(&*left));
                    }
                    prop_assert_eq!(&with_hub, &model.committed);
                }
            }
            book.roll_back();
            for left in book.tidy() {
                prop_assert!(with_hub.remove(&*left));
            }
            prop_assert_eq!(with_hub, model.committed);
        }
    }
}
