//! The queue against a toy server that follows the manual's rules.

use super::*;
use crate::encode::PARSE_COMPLETE;
use crate::tag::backend as b;
use proptest::prelude::*;

fn queue(requests: &[(Request, Fate)]) -> ReplyQueue<u32> {
    let mut queue = ReplyQueue::default();
    for (number, &(request, fate)) in (0..).zip(requests) {
        queue.push(request, fate, Some(number));
    }
    queue
}

fn observe(queue: &mut ReplyQueue<u32>, tag: u8) -> (Fate, Vec<Settled<u32>>) {
    let mut settled = Vec::new();
    let fate = queue.observe(tag, &mut |outcome| settled.push(outcome)).unwrap();
    (fate, settled)
}

#[test]
fn a_failed_pipeline_is_undone_newest_first_up_to_the_sync() {
    use Fate::{Forward, Swallow};
    let mut queue = queue(&[
        (Request::Parse, Swallow),
        (Request::Bind, Forward),
        (Request::Execute, Forward),
        (Request::Sync, Forward),
        (Request::Parse, Forward),
        (Request::Sync, Forward),
    ]);
    let (fate, settled) = observe(&mut queue, b::ERROR_RESPONSE);
    assert_eq!(fate, Swallow);
    assert_eq!(settled, [Settled::Failed(2), Settled::Failed(1), Settled::Failed(0)]);
    observe(&mut queue, b::READY_FOR_QUERY);
    assert_eq!(observe(&mut queue, b::PARSE_COMPLETE).1, [Settled::Succeeded(4)]);
    observe(&mut queue, b::READY_FOR_QUERY);
    assert!(queue.is_settled());
}

#[test]
fn a_synthetic_reply_waits_for_its_turn_and_dies_with_its_batch() {
    let known = Fate::Synthesise(PARSE_COMPLETE);
    let mut first =
        queue(&[(Request::Bind, Fate::Forward), (Request::Parse, known), (Request::Sync, Fate::Forward)]);
    assert_eq!(first.due(), None);
    observe(&mut first, b::BIND_COMPLETE);
    assert_eq!(first.due(), Some((PARSE_COMPLETE, Some(1))));
    let mut second =
        queue(&[(Request::Bind, Fate::Forward), (Request::Parse, known), (Request::Sync, Fate::Forward)]);
    observe(&mut second, b::ERROR_RESPONSE);
    assert_eq!(second.due(), None);
    observe(&mut second, b::READY_FOR_QUERY);
    assert!(second.is_settled());
}

#[test]
fn an_error_before_the_sync_skips_what_is_sent_until_it() {
    let mut queue = queue(&[(Request::Execute, Fate::Forward)]);
    observe(&mut queue, b::ERROR_RESPONSE);
    assert!(queue.is_empty() && !queue.is_settled() && queue.is_skipping());
    assert_eq!(queue.push(Request::Parse, Fate::Forward, Some(9)), Some(9));
    assert_eq!(queue.push(Request::Query, Fate::Forward, None), None);
    assert!(queue.is_empty());
    queue.push(Request::Sync, Fate::Forward, None);
    observe(&mut queue, b::READY_FOR_QUERY);
    assert!(queue.is_settled());
}

#[test]
fn a_sync_sent_before_the_copy_data_is_not_answered() {
    let forward = Fate::Forward;
    let mut queue = queue(&[(Request::Execute, forward), (Request::Sync, forward)]);
    observe(&mut queue, b::COPY_IN_RESPONSE);
    assert!(queue.is_copy_in() && !queue.is_settled());
    queue.push(Request::Sync, forward, None);
    queue.push(Request::CopyEnd, forward, None);
    queue.push(Request::Sync, forward, None);
    observe(&mut queue, b::COMMAND_COMPLETE);
    assert!(!queue.is_settled());
    assert_eq!(queue.due(), None);
    observe(&mut queue, b::READY_FOR_QUERY);
    assert!(queue.is_settled());
}

#[test]
fn a_whole_copy_in_one_pipeline_owes_one_ready() {
    let forward = Fate::Forward;
    let mut queue = queue(&[
        (Request::Execute, forward),
        (Request::Sync, forward),
        (Request::CopyEnd, forward),
        (Request::Sync, forward),
    ]);
    observe(&mut queue, b::COPY_IN_RESPONSE);
    assert!(!queue.is_copy_in());
    observe(&mut queue, b::COMMAND_COMPLETE);
    observe(&mut queue, b::READY_FOR_QUERY);
    assert!(queue.is_settled());
}

#[test]
fn the_end_of_a_simple_copy_is_not_left_over() {
    let forward = Fate::Forward;
    let mut told = queue(&[(Request::Query, forward)]);
    observe(&mut told, b::COPY_IN_RESPONSE);
    told.push(Request::CopyEnd, forward, None);
    observe(&mut told, b::COMMAND_COMPLETE);
    observe(&mut told, b::READY_FOR_QUERY);
    assert!(told.is_settled());
    let mut refused = queue(&[(Request::Query, forward), (Request::CopyEnd, forward)]);
    observe(&mut refused, b::ERROR_RESPONSE);
    observe(&mut refused, b::READY_FOR_QUERY);
    assert!(refused.is_settled());
}

#[test]
fn a_reply_that_nobody_asked_for_is_unexpected() {
    let mut queue = ReplyQueue::<u32>::default();
    for tag in [b::PARSE_COMPLETE, b::DATA_ROW, b::READY_FOR_QUERY, b::COMMAND_COMPLETE, b'?'] {
        assert_eq!(queue.observe(tag, &mut |_| {}), Err(Unexpected(tag)));
    }
    assert_eq!(queue.observe(b::NOTICE_RESPONSE, &mut |_| {}), Ok(Fate::Forward));
}

#[test]
fn what_the_server_says_by_itself_is_the_clients() {
    let mut queue = queue(&[(Request::Parse, Fate::Swallow), (Request::Query, Fate::Swallow)]);
    for tag in [b::NOTIFICATION_RESPONSE, b::NOTICE_RESPONSE, b::PARAMETER_STATUS] {
        assert_eq!(queue.observe(tag, &mut |_| {}), Ok(Fate::Forward));
    }
    observe(&mut queue, b::PARSE_COMPLETE);
    assert_eq!(queue.observe(b::NOTIFICATION_RESPONSE, &mut |_| {}), Ok(Fate::Forward));
    assert_eq!(queue.observe(b::PARAMETER_STATUS, &mut |_| {}), Ok(Fate::Swallow));
}

/// One step of a generated conversation: what is sent, and whether the server finds fault with it.
#[derive(Debug, Clone, Copy)]
struct Step {
    request: Request,
    fate: Fate,
    fails: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let request = prop_oneof![
        Just(Request::Parse),
        Just(Request::Bind),
        Just(Request::Describe),
        Just(Request::Execute),
        Just(Request::Close),
        Just(Request::Sync),
        Just(Request::Sync),
        Just(Request::Query),
        Just(Request::FunctionCall),
    ];
    let fate = prop_oneof![4 => Just(Fate::Forward), 1 => Just(Fate::Swallow), 1 => Just(Fate::Synthesise(PARSE_COMPLETE))];
    (request, fate, prop::bool::weighted(0.15)).prop_map(|(request, fate, fails)| {
        let synthetic = matches!(fate, Fate::Synthesise(_));
        let fate = if synthetic && !matches!(request, Request::Parse | Request::Close) {
            Fate::Forward
        } else {
            fate
        };
        Step { request, fate, fails }
    })
}

/// What the toy server answers to one request, by the manual.
struct ToyServer {
    skipping: bool,
}

impl ToyServer {
    fn answer(&mut self, step: Step) -> Vec<u8> {
        if self.skipping && step.request != Request::Sync {
            return vec![];
        }
        let simple = matches!(step.request, Request::Query | Request::FunctionCall | Request::Sync);
        if step.fails {
            self.skipping = !simple;
            return if simple {
                vec![b::ERROR_RESPONSE, b::READY_FOR_QUERY]
            } else {
                vec![b::ERROR_RESPONSE]
            };
        }
        match step.request {
            Request::Parse => vec![b::PARSE_COMPLETE],
            Request::Bind => vec![b::BIND_COMPLETE],
            Request::Describe => vec![b::PARAMETER_DESCRIPTION, b::ROW_DESCRIPTION],
            Request::Execute => vec![b::DATA_ROW, b::COMMAND_COMPLETE],
            Request::Close => vec![b::CLOSE_COMPLETE],
            Request::Sync => {
                self.skipping = false;
                vec![b::READY_FOR_QUERY]
            }
            Request::Query => vec![b::ROW_DESCRIPTION, b::DATA_ROW, b::COMMAND_COMPLETE, b::READY_FOR_QUERY],
            Request::FunctionCall => vec![b::FUNCTION_CALL_RESPONSE, b::READY_FOR_QUERY],
            Request::CopyEnd => vec![],
        }
    }
}

proptest! {
    /// However far the client runs ahead of the server, each reply meets the request that caused it, nothing is
    /// left over, and each effect is settled exactly once.
    #[test]
    fn every_reply_finds_its_request(steps in prop::collection::vec(step(), 1..40), ahead in 1usize..12) {
        let mut steps = steps;
        steps.push(Step { request: Request::Sync, fate: Fate::Forward, fails: false });
        let mut queue = ReplyQueue::default();
        let mut server = ToyServer { skipping: false };
        let mut answers: VecDeque<(usize, u8)> = VecDeque::new();
        let mut settled = vec![0; steps.len()];
        let mut unanswered = 0;
        for (number, &step) in steps.iter().enumerate() {
            if let Some(undone) = queue.push(step.request, step.fate, Some(number)) {
                settled[undone] += 1;
            }
            if !matches!(step.fate, Fate::Synthesise(_)) {
                answers.extend(server.answer(step).into_iter().map(|tag| (number, tag)));
            }
            unanswered += 1;
            let last = number + 1 == steps.len();
            if unanswered < ahead && !last {
                continue;
            }
            unanswered = 0;
            loop {
                while queue.due().is_some() {}
                let Some((cause, tag)) = answers.pop_front() else { break };
                let head = queue.head().copied();
                let fate = queue.observe(tag, &mut |outcome| {
                    let (Settled::Succeeded(effect) | Settled::Failed(effect)) = outcome;
                    settled[effect] += 1;
                });
                prop_assert!(fate.is_ok(), "{:?} for step {}", tag as char, cause);
                prop_assert_eq!(fate.ok(), head.map(|entry| entry.fate));
                if tag != b::ERROR_RESPONSE && tag != b::READY_FOR_QUERY {
                    prop_assert_eq!(head.and_then(|entry| entry.effect), Some(cause));
                }
            }
        }
        prop_assert!(queue.is_settled());
        for (number, step) in steps.iter().enumerate() {
            let synthetic = matches!(step.fate, Fate::Synthesise(_));
            prop_assert!(synthetic || settled[number] == 1, "step {} settled {} times", number, settled[number]);
        }
    }
}
