//! LISTEN and NOTIFY work in transaction mode as on a connection of one's own.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use hawser_tests::raw::{Backend, Client};
use hawser_tests::{Site, cluster, wait_until};

/// How long nothing must come.
const SILENCE: Duration = Duration::from_millis(200);

/// Sender, channel and payload of a NotificationResponse.
#[track_caller]
fn parts(message: &Backend) -> (u32, String, String) {
    assert_eq!(message.tag, b'A', "{message:?}");
    let (pid, rest) = message.body.split_first_chunk::<4>().unwrap();
    let mut texts = rest.split(|byte| *byte == 0).map(|text| String::from_utf8(text.to_vec()).unwrap());
    (u32::from_be_bytes(*pid), texts.next().unwrap(), texts.next().unwrap())
}

/// The next notification, while nothing else is said.
#[track_caller]
fn next(client: &mut Client) -> (String, String) {
    let (_, channel, payload) = parts(&client.read());
    (channel, payload)
}

/// Channel and payload of each notification among `messages`.
fn notified(messages: &[Backend]) -> Vec<(String, String)> {
    let heard = messages.iter().filter(|message| message.tag == b'A').map(parts);
    heard.map(|(_, channel, payload)| (channel, payload)).collect()
}

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

#[test]
fn clients_over_one_server_connection_hear_each_other() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("LISTEN jobs");
    writer.execute("NOTIFY jobs, 'one'");
    writer.execute("SELECT pg_notify('jobs', 'two')");
    assert_eq!(next(&mut reader), pair("jobs", "one"));
    assert_eq!(next(&mut reader), pair("jobs", "two"));
    reader.execute("UNLISTEN jobs");
    writer.execute("NOTIFY jobs, 'three'");
    reader.expect_silence(SILENCE);
    site.others_are_well();
}
