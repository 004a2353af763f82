use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

type Case<'a> = (&'a [Option<&'a str>], Result<Found, LookupError>);

fn row(columns: &[Option<&str>]) -> Vec<Vec<Option<String>>> {
    vec![columns.iter().map(|column| column.map(str::to_owned)).collect()]
}

fn password(text: &str) -> Secret {
    Secret::Password(Zeroizing::new(text.to_owned()))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn rows_are_read_by_the_place_of_their_columns() {
    let secret = |valid_until| Ok(Found::Secret { secret: password("x"), valid_until });
    let table: &[Case<'_>] = &[
        (&[Some("anna"), Some("x")], secret(None)),
        (&[Some("anna"), None], Ok(Found::NoSecret)),
        (&[Some("anna"), Some("")], Ok(Found::NoSecret)),
        (&[None, None], Ok(Found::Unknown)),
        (&[Some("anna"), Some("x"), None], secret(None)),
        (&[Some("anna"), Some("x"), Some("infinity")], secret(None)),
        (&[Some("anna"), Some("x"), Some("86400.25")], secret(Some(at(86_400)))),
        (&[Some("anna"), Some("x"), Some("1970-01-02 00:00:00+00"), Some("t")], secret(Some(at(86_400)))),
        (&[Some("anna"), Some("x"), None, Some("f")], Ok(Found::CannotLogIn)),
        (&[Some("anna"), Some("x"), None, None], Ok(Found::CannotLogIn)),
        (&[Some("anna"), Some("x"), None, Some("maybe")], Err(LookupError::CanLogIn("maybe".into()))),
        (&[Some("anna"), Some("x"), Some("soon")], Err(LookupError::ValidUntil("soon".into()))),
        (&[Some("anna"), Some("SCRAM-SHA-256$x")], Err(LookupError::Secret(VerifierError))),
        (&[Some("anna")], Err(LookupError::Columns(1))),
        (&[], Err(LookupError::Columns(0))),
        (&[None; 5], Err(LookupError::Columns(5))),
        (
            &[Some("bob"), Some("x")],
            Err(LookupError::OtherUser { asked: "anna".into(), answered: "bob".into() }),
        ),
    ];
    for (columns, expected) in table {
        assert_eq!(&interpret("anna", &row(columns)), expected, "{columns:?}");
    }
    assert_eq!(interpret("anna", &[]), Ok(Found::Unknown));
    let mut two = row(&[Some("anna"), Some("x")]);
    two.push(two[0].clone());
    assert_eq!(interpret("anna", &two), Err(LookupError::Rows));
}

#[test]
fn timestamps_are_read_as_postgresql_writes_them() {
    // select extract(epoch from '...'::timestamptz)
    let table: &[(&str, Option<u64>)] = &[
        ("1970-01-01 00:00:00+00", Some(0)),
        ("2000-02-29 12:34:56+00", Some(951_827_696)),
        ("2026-11-21 06:00:00.123456+00", Some(1_795_240_800)),
        ("2026-11-21 06:00:00+05:30", Some(1_795_221_000)),
        ("2026-11-21 06:00:00-08", Some(1_795_269_600)),
        ("2026-11-21T06:00:00Z", Some(1_795_240_800)),
        ("2100-03-01 00:00:00+00", Some(4_107_542_400)),
        ("1969-12-31 23:59:59+00", Some(0)),
        ("0044-03-15 12:00:00+00 BC", Some(0)),
        ("12345-01-01 00:00:00+00", Some(327_403_382_400)),
        ("2026-11-21 06:00:00", None),
        ("2026-11-21", None),
        ("2026-13-21 06:00:00+00", None),
        ("2026-11-21 06:00:00+99", None),
        ("2026-11-21 06:00+00", None),
        ("21.11.2026 06:00:00 CET", None),
        ("", None),
        ("99999999999999999999", None),
    ];
    for (text, expected) in table {
        assert_eq!(parse_time(text), expected.map(|seconds| Some(at(seconds))), "{text}");
    }
    assert_eq!(parse_time("-infinity"), Some(Some(at(0))));
}

#[test]
fn a_secret_holds_until_its_day_even_from_the_cache() {
    let found = Found::Secret { secret: password("x"), valid_until: Some(at(100)) };
    assert_eq!(found.secrets(at(100)), [password("x")]);
    assert_eq!(found.secrets(at(101)), []);
    assert_eq!(found.why_not(at(100)), None);
    assert_eq!(found.why_not(at(101)), Some("the role's password has expired"));
    for other in [Found::Unknown, Found::CannotLogIn, Found::NoSecret] {
        assert_eq!(other.secrets(at(0)), []);
        assert!(other.why_not(at(0)).is_some());
    }
}

#[test]
fn secrets_do_not_show_in_debug() {
    let found = Found::Secret { secret: password("swordfish"), valid_until: None };
    assert!(!format!("{found:?}").contains("swordfish"));
}

fn query() -> AuthQuery {
    AuthQuery {
        user: "asker".into(),
        query: "select".into(),
        dbname: None,
        cache_ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(5),
    }
}

fn key(user: &str) -> SecretKey {
    SecretKey { database: "shop".into(), user: user.into() }
}

#[test]
fn answers_are_believed_for_their_time_and_no_longer() {
    let start = Instant::now();
    let cache = SecretCache::new(10);
    let found = Found::Secret { secret: password("x"), valid_until: None };
    cache.put(key("anna"), found.clone(), &query(), start);
    cache.put(key("nobody"), Found::Unknown, &query(), start);
    let after = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(cache.get(&key("anna"), after(59)), Some(found));
    assert_eq!(cache.get(&key("anna"), after(60)), None);
    assert_eq!(cache.get(&key("nobody"), after(4)), Some(Found::Unknown));
    assert_eq!(cache.get(&key("nobody"), after(5)), None);
    let elsewhere = SecretKey { database: "blog".into(), ..key("anna") };
    assert_eq!(cache.get(&elsewhere, start), None);
}

#[test]
fn a_failed_login_forgets_an_answer_unless_it_is_fresh() {
    let start = Instant::now();
    let cache = SecretCache::new(10);
    cache.put(key("anna"), Found::NoSecret, &query(), start);
    assert!(!cache.forget_after_failure(&key("anna"), start + Duration::from_millis(999)));
    assert!(cache.get(&key("anna"), start).is_some());
    assert!(cache.forget_after_failure(&key("anna"), start + Duration::from_secs(1)));
    assert!(cache.get(&key("anna"), start).is_none());
}

#[test]
fn no_more_answers_are_kept_than_allowed() {
    let start = Instant::now();
    let cache = SecretCache::new(3);
    for user in ["a", "b", "c", "d"] {
        cache.put(key(user), Found::Unknown, &query(), start);
    }
    assert_eq!(cache.kept(), 3);
    assert!(cache.get(&key("a"), start).is_none() && cache.get(&key("d"), start).is_some());
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(columns in prop::collection::vec(prop::option::of("[-0-9:+. TZé]{0,30}|anna|t"), 0..6)) {
        let _ = interpret("anna", &[columns]);
    }

    #[test]
    fn days_follow_each_other(days in 0i64..4_000_000) {
        // Counting month by month from 1 March 0000 must agree with the formula.
        let (mut year, mut rest) = (0, days);
        let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
        let length = |y: i64| if leap(y + 1) { 366 } else { 365 };
        while rest >= length(year) {
            rest -= length(year);
            year += 1;
        }
        let lengths = [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, if leap(year + 1) { 29 } else { 28 }];
        let mut month = 3;
        for length in lengths {
            if rest < length { break }
            rest -= length;
            month += 1;
        }
        let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
        prop_assert_eq!(days_since_1970(year, month, rest + 1), days - 719_468);
    }
}
